"""Static deltas: names, folders, lists of them."""

from __future__ import annotations

import hashlib

import pytest
from tests.unit.store.conftest import commit_files
from tests.unit.store.static_delta.programs import PROGRAM

from wherry.core.digest import Checksum
from wherry.core.errors import InvalidInput, NotFound
from wherry.store.format.variant import Variant
from wherry.store.repository import Repository
from wherry.store.static_delta import index, names
from wherry.store.static_delta.generate import generate

A, B = Checksum("ab" * 32), Checksum("cd" * 32)


def test_names() -> None:
    assert names.to_base64(A) == "q6urq6urq6urq6urq6urq6urq6urq6urq6urq6urq6s"
    assert names.from_base64(names.to_base64(B)) == B
    slash = Checksum("ff" * 32)
    assert "/" not in names.to_base64(slash)
    assert names.delta_path(None, B) == f"deltas/{names.to_base64(B)[:2]}/{names.to_base64(B)[2:]}/superblock"
    assert names.delta_path(A, B, "3") == f"deltas/q6/{names.to_base64(A)[2:]}-{names.to_base64(B)}/3"
    assert names.index_path(A) == f"delta-indexes/q6/{names.to_base64(A)[2:]}.index"
    assert names.parse_delta_name(names.delta_name(A, B)) == (A, B)
    assert names.parse_delta_name(B) == (None, B)


@pytest.mark.parametrize("text", ["", "GARBAGE", f"{A}-", f"-{A}", f"{A}-x", f"{A[:-1]}", f"{A}-{B}-{A}"])
def test_bad_names(text: str) -> None:
    with pytest.raises(InvalidInput, match="Invalid rev"):
        names.parse_delta_name(text)


@pytest.mark.parametrize("text", ["", "a", "=" * 43, "é" * 43, "a" * 44])
def test_bad_base64(text: str) -> None:
    with pytest.raises(InvalidInput):
        names.from_base64(text)


def test_list_and_delete(archive: Repository) -> None:
    assert names.list_deltas(archive) == [] == names.list_indexes(archive)
    first = commit_files(archive, {"a": PROGRAM})
    generate(archive, None, first)
    (archive.path / "deltas/zz").mkdir()
    (archive.path / "deltas/zz/no-delta").mkdir()
    assert names.list_deltas(archive) == [(None, first)]
    assert names.exists(archive, (None, first))
    assert not names.exists(archive, (first, first))
    index.reindex(archive)
    assert names.list_indexes(archive) == [first]
    assert Repository.open(archive.path).config.get_bool("core", "indexed-deltas", False)
    raw = (archive.path / names.index_path(first)).read_bytes()
    digest = hashlib.sha256((archive.path / names.delta_path(None, first)).read_bytes()).digest()
    assert index.parse_index(raw) == {(None, first): digest}
    assert index.superblock_digests(archive) == {str(first): Variant("ay", digest)}
    names.delete_delta(archive, (None, first))
    assert names.list_deltas(archive) == []
    index.reindex(archive)
    assert names.list_indexes(archive) == []
    with pytest.raises(NotFound, match="find delta"):
        names.delete_delta(archive, (None, first))
