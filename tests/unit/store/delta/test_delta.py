"""Device deltas: made, applied, cut short, damaged, and made by somebody who means ill."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest
from tests.unit.store.delta.pairs import (
    BytesOrigin,
    Pair,
    apply,
    edited,
    new_files,
    old_files,
    program,
    whole,
    zstd_program,
)

from wherry.core.digest import Checksum
from wherry.core.errors import IntegrityError, InvalidInput, NotFound, TrustError, Unsupported, WherryError
from wherry.store.delta import encoders
from wherry.store.delta.apply import BAD_DELTA, apply_delta
from wherry.store.delta.format import parse_head, serialize_head
from wherry.store.delta.job import FileOrigin, read_head
from wherry.store.delta.make import MakeOptions
from wherry.store.format.objects import Mode, ObjectType
from wherry.store.tree.walk import lookup, reachable


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return Pair(tmp_path_factory.mktemp("pair"), old_files(), new_files())


@pytest.fixture(scope="module")
def delta(pair: Pair) -> bytes:
    return pair.make()


@pytest.mark.parametrize("mode", [Mode.BARE_USER, Mode.ARCHIVE, Mode.BARE_USER_ONLY])
def test_applied_everywhere(pair: Pair, delta: bytes, mode: Mode) -> None:
    repo = pair.device(mode)
    stats = apply(repo, delta)
    assert whole(repo, pair.new)
    assert stats.bytes_received == len(delta)
    assert stats.objects == parse_head(delta, where="x").header.objects
    assert not list((repo.path / "tmp").glob("wherry-delta-*"))


def test_is_made_the_same_again(pair: Pair, delta: bytes) -> None:
    assert pair.make(MakeOptions(threads=3)) == delta


def test_made_from_an_unpacked_repository(tmp_path: Path) -> None:
    pair = Pair(tmp_path, old_files(), new_files(), Mode.BARE_USER)
    repo = pair.device(Mode.ARCHIVE)
    apply(repo, pair.make())
    assert whole(repo, pair.new)


def test_small(pair: Pair, delta: bytes) -> None:
    """Everything that is compressed is seen through, but for the file that is new."""
    fresh = sum(len(data) for path, data in new_files().items() if path == "usr/lib/fresh")
    assert len(delta) < fresh + 12_000
    names = {encoder.name for encoder in parse_head(delta, where="x").header.encoders}
    assert {"zlib", "lzma2", "zstd", "lz4"} <= names | {"gzip"}


def test_from_nothing(tmp_path: Path) -> None:
    pair = Pair(tmp_path, {}, new_files())
    pair.old = Checksum("")
    data = tmp_path / "delta"
    from wherry.store.delta.make import make_delta

    make_delta(pair.repo, [], [pair.new], data)
    repo = pair.device(empty=True)
    apply_delta(repo, read_head(FileOrigin(data), where=data), FileOrigin(data))
    assert whole(repo, pair.new)


def test_only_a_line_of_configuration(tmp_path: Path) -> None:
    files = old_files()
    pair = Pair(tmp_path, files, files | {"etc/config": files["etc/config"] + b"more\n"})
    delta = pair.make()
    assert len(delta) < 900
    repo = pair.device()
    apply(repo, delta)
    assert whole(repo, pair.new)


def test_is_cut_anywhere_and_goes_on(pair: Pair, delta: bytes) -> None:
    """What has come is not fetched again, wherever the stream broke."""
    head = parse_head(delta, where="x")
    for stop in range(head.size, len(delta), max(1, len(delta) // 5)):
        repo = pair.device()
        broken = BytesOrigin(delta, stop=stop)
        with pytest.raises(ConnectionError):
            apply(repo, broken)
        rest = BytesOrigin(delta)
        apply(repo, rest)
        assert whole(repo, pair.new)
        assert broken.read + rest.read == len(delta)


def test_any_byte_damaged_is_found(pair: Pair, delta: bytes) -> None:
    """A flipped bit in any place ends in a refusal, and the next try with the right bytes ends well."""
    repo = pair.device()
    for at in range(0, len(delta), max(1, len(delta) // 100)):
        damaged = bytearray(delta)
        damaged[at] ^= 1 << at % 8
        try:
            apply(repo, bytes(damaged))
        except BAD_DELTA:
            pass
        else:
            pytest.fail(f"byte {at} was flipped, and nobody saw it")
        assert not repo.has(ObjectType.COMMIT, pair.new) or repo.is_partial(pair.new)
    apply(repo, delta)
    assert whole(repo, pair.new)


def test_objects_that_are_here_are_not_made(pair: Pair, delta: bytes) -> None:
    repo = pair.device()
    names = [name for name in reachable(pair.repo, pair.new) if name[0] is ObjectType.FILE]
    for kind, checksum in names[::2]:
        with open(pair.repo.object_path(kind, checksum), "rb") as file:
            repo.write_object(kind, file, checksum)
    stats = apply(repo, delta)
    assert stats.present
    assert whole(repo, pair.new)


def test_a_source_that_is_gone(pair: Pair, delta: bytes) -> None:
    repo = pair.device()
    checksum = lookup(repo, pair.old, "usr/bin/tool-1")
    assert isinstance(checksum, str)
    repo.object_path(ObjectType.FILE, Checksum(checksum)).unlink()
    with pytest.raises(NotFound):
        apply(repo, delta)
    with pytest.raises(NotFound, match="starts from a commit"):
        apply(pair.device(empty=True), delta)


def test_a_source_that_is_damaged(pair: Pair, delta: bytes) -> None:
    repo = pair.device()
    checksum = lookup(repo, pair.old, "usr/bin/tool-1")
    assert isinstance(checksum, str)
    path = repo.object_path(ObjectType.FILE, Checksum(checksum))
    path.chmod(0o644)
    data = path.read_bytes()
    with open(path, "r+b") as file:
        file.write(bytes(len(data)))
    with pytest.raises(IntegrityError):
        apply(repo, delta)


def test_another_version_of_an_encoder(pair: Pair, delta: bytes) -> None:
    head = parse_head(delta, where="x")
    other = tuple(replace(encoder, probe=bytes(16)) for encoder in head.header.encoders)
    changed = serialize_head(replace(head.header, encoders=other)) + delta[head.size :]
    with pytest.raises(Unsupported, match="another version"):
        apply(pair.device(), changed)


def test_only_encoders_that_are_allowed(pair: Pair) -> None:
    delta = pair.make(MakeOptions(encoders=(), threads=1))
    assert parse_head(delta, where="x").header.encoders == ()
    repo = pair.device()
    apply(repo, delta)
    assert whole(repo, pair.new)


def test_made_by_the_program_zstd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A distribution's program is of another version than the library; a device without it refuses the delta."""
    plain = program(40, 60_000)
    pair = Pair(tmp_path, {"a.zst": zstd_program(plain)}, {"a.zst": zstd_program(edited(plain, 41))})
    delta = pair.make(MakeOptions(encoders=("zstd-program",), threads=1))
    head = parse_head(delta, where="x")
    assert {encoder.name for encoder in head.header.encoders} == {"zstd-program"}
    assert len(delta) < 3000
    apply(device := pair.device(), delta)
    assert whole(device, pair.new)

    def gone(*_: object) -> None:
        raise Unsupported("program not found: zstd")

    encoders.probe.cache_clear()
    monkeypatch.setattr(encoders, "through_program", gone)
    with pytest.raises(Unsupported, match="zstd-program"):
        apply(pair.device(), delta)
    assert len(pair.make(MakeOptions(encoder_bytes=1, threads=1))) > len(delta) * 5
    encoders.probe.cache_clear()


def test_memory_of_encoders() -> None:
    """With workers zstd holds jobs; a limit that counts them keeps large ones out."""
    limit = encoders.MAX_ENCODER_BYTES
    assert encoders.encoder_memory("zstd", (3, 3, 21, 0), 50_000_000) < limit
    assert encoders.encoder_memory("zstd", (3, 3, 21, 1), 50_000_000) > limit
    assert encoders.encoder_memory("zstd-program", (9, 3, 22, 1), 1_000_000) < limit


def test_commits_that_nobody_signed_are_not_kept(pair: Pair, delta: bytes) -> None:
    def refuse(*_: object) -> None:
        raise TrustError("not by a key of ours")

    repo = pair.device()
    with pytest.raises(TrustError):
        apply_delta(repo, read_head(BytesOrigin(delta), where="x"), BytesOrigin(delta), verify=refuse)
    assert not repo.has(ObjectType.COMMIT, pair.new)


def test_a_part_that_was_damaged_on_the_disk(pair: Pair, delta: bytes) -> None:
    repo = pair.device()
    with pytest.raises(ConnectionError):
        apply(repo, BytesOrigin(delta, stop=len(delta) - 1))
    (stream,) = (repo.path / "tmp").glob("wherry-delta-*/stream")
    with open(stream, "r+b") as file:
        file.seek(len(delta) // 2)
        file.write(os.urandom(100))
    apply(repo, delta)
    assert whole(repo, pair.new)


def test_many_parts(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """An object goes on over several parts, and over a break between them."""
    from wherry.store.delta import apply as applying
    from wherry.store.delta import make, writer

    monkeypatch.setattr(writer, "PART_VIEW_BYTES", 50_000)
    monkeypatch.setattr(make, "SEGMENT_BYTES", 17_000)
    monkeypatch.setattr(applying, "SMALL_VIEW_BYTES", 5_000)
    delta = pair.make()
    head = parse_head(delta, where="x")
    assert len(head.header.parts) > 8
    stop = head.size
    for number, part in enumerate(head.header.parts):
        stop += part.size
        if number % 8:
            continue
        repo = pair.device()
        if stop < len(delta):
            with pytest.raises(ConnectionError):
                apply(repo, BytesOrigin(delta, stop=stop + 1))
        rest = BytesOrigin(delta)
        apply(repo, rest)
        assert whole(repo, pair.new)
        assert rest.read == len(delta) - stop - 1 if stop < len(delta) else len(delta)


@pytest.mark.parametrize("size", [0, 1, 8, 13, 14, 20, 100])
def test_cut_heads(delta: bytes, size: int) -> None:
    with pytest.raises(InvalidInput):
        parse_head(delta[:size], where="x")
    with pytest.raises(InvalidInput):
        read_head(BytesOrigin(delta[:size]), where="x")


def test_a_later_version(delta: bytes) -> None:
    with pytest.raises(Unsupported, match="version 2"):
        parse_head(delta[:8] + b"\x02" + delta[9:], where="x")


def test_probes_tell_encoders_apart() -> None:
    wanted = [("zlib", (6, 8, 0)), ("zlib", (9, 8, 0)), ("zstd", (3, 0, 20, 0)), ("lz4", (9,)), ("lz4", (0,))]
    probes = [encoders.probe(name, numbers) for name, numbers in wanted]
    assert len(set(probes)) == len(probes)


def test_signed(pair: Pair, delta: bytes) -> None:
    signature = bytes(range(64))
    data = pair.make(MakeOptions(signers=[lambda data: signature], threads=1))
    head = parse_head(data, where="x")
    assert head.signatures == (signature,)
    assert head.signed.startswith(b"WHYDELTA\x01")
    assert head.name == parse_head(delta, where="x").name


def test_not_enough_room(pair: Pair, delta: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    repo = pair.device()
    monkeypatch.setattr(repo.space, "missing", lambda size: 5)
    with pytest.raises(WherryError, match="does not fit"):
        apply(repo, delta)


def test_large_segments_of_noise(tmp_path: Path) -> None:
    noise = program(30, 1_200_000)
    pair = Pair(tmp_path, {"a": noise}, {"b": noise[400_000:] + noise[:400_000]})
    delta = pair.make()
    assert len(delta) < 3000
    repo = pair.device()
    apply(repo, delta)
    assert whole(repo, pair.new)
