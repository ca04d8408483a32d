"""Keys: files, permissions, signatures, and what is refused."""

from __future__ import annotations

import base64
import os
import stat
from pathlib import Path

import pytest

from wherry.core.errors import Conflict, InvalidInput, NotFound, NotPermitted, TrustError
from wherry.trust.keys import MAX_KEY_FILE_BYTES, PrivateKey, PublicKey, is_private, load_public

# RFC 8032, section 7.1, test 2
_RFC_PUBLIC = bytes.fromhex("3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c")
_RFC_SIGNATURE = bytes.fromhex(
    "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
    "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"
)


def test_verifies_the_standards_own_example() -> None:
    PublicKey(_RFC_PUBLIC).verify(b"\x72", _RFC_SIGNATURE)
    with pytest.raises(TrustError, match="not signed by key"):
        PublicKey(_RFC_PUBLIC).verify(b"\x73", _RFC_SIGNATURE)
    with pytest.raises(TrustError):
        PublicKey(_RFC_PUBLIC).verify(b"\x72", _RFC_SIGNATURE[:-1])


def test_a_saved_key_signs_the_same(tmp_path: Path) -> None:
    key = PrivateKey.generate()
    key.save(tmp_path / "key")
    key.public.save(tmp_path / "key.pub")
    again = PrivateKey.load(tmp_path / "key")
    assert again.sign(b"data") == key.sign(b"data")
    assert load_public(tmp_path / "key.pub") == key.public == again.public
    assert stat.S_IMODE((tmp_path / "key").stat().st_mode) == 0o600
    assert (tmp_path / "key.pub").read_text() == key.public.base64 + "\n"
    assert base64.b64decode(key.public.base64) == key.public.raw
    assert is_private(tmp_path / "key")
    assert not is_private(tmp_path / "key.pub")


def test_the_id_is_the_hash_of_the_raw_key() -> None:
    key = PublicKey(bytes(32))
    assert key.key_id == "66687aadf862bd776c8fc18b8e9f8e20089714856ee233b3902a591d0d5f2925"


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o666, 0o601, 0o644])
def test_a_key_that_others_can_touch_is_refused(tmp_path: Path, mode: int) -> None:
    PrivateKey.generate().save(tmp_path / "key")
    (tmp_path / "key").chmod(mode)
    with pytest.raises(NotPermitted, match=rf"mode {mode:04o}.*chmod 600"):
        PrivateKey.load(tmp_path / "key")


def test_saving_never_writes_over(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("mine")
    with pytest.raises(Conflict, match="write over"):
        PrivateKey.generate().save(tmp_path / "key")
    assert (tmp_path / "key").read_text() == "mine"


def test_bad_private_keys(tmp_path: Path) -> None:
    file = tmp_path / "key"
    with pytest.raises(NotFound, match="key generate"):
        PrivateKey.load(file)
    for data, message in (
        (b"", "PEM"),
        (b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", "PEM"),
        (_rsa_pem(), "not an Ed25519 key"),
        (b"x" * (MAX_KEY_FILE_BYTES + 1), "longer"),
    ):
        file.write_bytes(data)
        file.chmod(0o600)
        with pytest.raises(InvalidInput, match=message):
            PrivateKey.load(file)


def test_a_key_that_is_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo", 0o600)
    for path in (tmp_path, tmp_path / "fifo"):
        with pytest.raises(InvalidInput, match="regular file"):
            load_public(path)
        with pytest.raises(InvalidInput, match="regular file"):
            PrivateKey.load(path)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "holds 0 public keys"),
        (b"# only a comment\n", "holds 0 public keys"),
        (b"AAAA\n", "3 bytes instead of 32"),
        (b"not base64!\n", "one line of base64"),
        (b"\xff\xfe\n", "one line of base64"),
        (base64.b64encode(bytes(32)) + b"\n" + base64.b64encode(bytes(32)) + b"\n", "holds 2 public keys"),
        (b"-----BEGIN PRIVATE KEY-----\n", "this is a private key"),
    ],
)
def test_bad_public_keys(tmp_path: Path, data: bytes, message: str) -> None:
    (tmp_path / "key.pub").write_bytes(data)
    with pytest.raises(InvalidInput, match=message):
        load_public(tmp_path / "key.pub")


def test_a_comment_may_stand_above_a_public_key(tmp_path: Path) -> None:
    (tmp_path / "key.pub").write_text(f"# the owner\n\n{PublicKey(_RFC_PUBLIC).base64}\n")
    assert load_public(tmp_path / "key.pub").raw == _RFC_PUBLIC


def test_a_key_never_shows_its_secret(tmp_path: Path) -> None:
    key = PrivateKey.generate()
    key.save(tmp_path / "key")
    body = (tmp_path / "key").read_text().splitlines()[1]
    assert body[-40:] not in repr(key) + str(key)
    assert not hasattr(key, "__dict__")


def _rsa_pem() -> bytes:
    from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    return generate_private_key(65537, 2048).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
