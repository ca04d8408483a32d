"""Signatures of packed apps: what is changed anywhere is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from wherry.core.errors import Conflict, IntegrityError, InvalidInput, NotFound, TrustError, WherryError
from wherry.engine.pack import header, trailer
from wherry.engine.pack.header import Header
from wherry.trust.keys import PrivateKey

SIZE = 8192


@pytest.fixture
def app(tmp_path: Path) -> Path:
    path = tmp_path / "app"
    head = header.write(Header(name="app", command=("/bin/app",), machine="x86_64", size=SIZE))
    path.write_bytes(head + b"hsqs" * (SIZE // 4))
    return path


def test_sign_and_verify(app: Path) -> None:
    key = PrivateKey.generate()
    before = app.read_bytes()
    unsigned = trailer.read(app)
    assert unsigned.signature is None
    trailer.sign(app, key)
    assert app.read_bytes()[: len(before)] == before
    assert trailer.verify(app, key.public).header.command == ("/bin/app",)
    with pytest.raises(Conflict):
        trailer.sign(app, key)


def test_not_signed_and_another_key(app: Path) -> None:
    key = PrivateKey.generate()
    with pytest.raises(TrustError, match="not signed"):
        trailer.verify(app, key.public)
    trailer.sign(app, PrivateKey.generate())
    with pytest.raises(TrustError, match="signed by key"):
        trailer.verify(app, key.public)


@pytest.mark.parametrize("at", [4000, 8192 + 4097, -1, -9, -20, -60, -130, -150])
def test_one_changed_byte(app: Path, at: int) -> None:
    key = PrivateKey.generate()
    trailer.sign(app, key)
    data = bytearray(app.read_bytes())
    data[at] ^= 1
    app.write_bytes(data)
    with pytest.raises((TrustError, IntegrityError, InvalidInput)):
        trailer.verify(app, key.public)


@pytest.mark.parametrize("cut", [1, 100, 159, 161, SIZE, SIZE + 200])
def test_cut_off(app: Path, cut: int) -> None:
    key = PrivateKey.generate()
    trailer.sign(app, key)
    app.write_bytes(app.read_bytes()[:-cut])
    with pytest.raises(InvalidInput):
        trailer.verify(app, key.public)


def test_a_signature_of_another_app_is_none(app: Path, tmp_path: Path) -> None:
    key = PrivateKey.generate()
    other = tmp_path / "other"
    other.write_bytes(app.read_bytes()[:-1] + b"X")
    trailer.sign(other, key)
    app.write_bytes(app.read_bytes() + other.read_bytes()[-trailer.TRAILER_BYTES :])
    with pytest.raises(IntegrityError):
        trailer.verify(app, key.public)


def test_what_is_no_app(tmp_path: Path) -> None:
    path = tmp_path / "x"
    with pytest.raises(NotFound):
        trailer.read(path)
    for data in (b"", b"#!/bin/sh\necho hi\n", bytes(5000)):
        path.write_bytes(data)
        with pytest.raises(WherryError):
            trailer.read(path)
