"""Packages fetched by their digests: whole, in part, gone, false, and on a disk that is full."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from tests.fixtures.mirrors import inputs_of, line, make_mirror, serving
from tests.fixtures.places import PlainPlace, plain_place

from wherry.build.debian.fetching import fetch
from wherry.build.debian.lock import Package
from wherry.build.debian.locking import update_lock
from wherry.build.debian.options import Options
from wherry.build.debian.sources import Source, sources_for
from wherry.core.errors import IntegrityError, NetworkError, NoSpace, NotFound


@pytest.fixture
def mirror(tmp_path: Path) -> Path:
    return make_mirror(tmp_path / "mirror")


@pytest.fixture
def packages(tmp_path: Path, mirror: Path) -> tuple[Package, ...]:
    inputs = inputs_of(tmp_path, "tool data\n", line(f"file:{mirror}"))
    return update_lock(inputs, plain_place(tmp_path / "lock")).added


def sources(*addresses: str) -> list[Source]:
    return sources_for(Options(mirrors=tuple(line(one) for one in addresses)))


def kept(place: PlainPlace, package: Package) -> Path:
    return place.downloads / "deb/sha256" / package.sha256


def test_all_come_and_are_linked(tmp_path: Path, mirror: Path, packages: tuple[Package, ...]) -> None:
    place = plain_place(tmp_path / "place")
    with serving(mirror) as (address, asked):
        fetch(place, packages, sources(address))
        assert len(asked) == 3
        fetch(plain_place(tmp_path / "second", downloads=place.downloads), packages, sources(address))
        assert len(asked) == 3
    for package in packages:
        assert (place.output / package.file_name).read_bytes() == (mirror / package.path).read_bytes()
    assert not list((place.downloads / "deb/sha256").glob(".*"))


def test_from_files(tmp_path: Path, mirror: Path, packages: tuple[Package, ...]) -> None:
    place = plain_place(tmp_path / "place")
    fetch(place, packages, sources(f"file:{mirror}"))
    assert all(kept(place, package).exists() for package in packages)


@pytest.mark.parametrize("ranges", [True, False])
def test_what_was_begun_goes_on(tmp_path: Path, mirror: Path, packages: tuple[Package, ...], ranges: bool) -> None:
    place = plain_place(tmp_path / "place")
    package = packages[0]
    part = place.downloads / f"deb/sha256/.{package.sha256}.part"
    part.parent.mkdir(parents=True)
    part.write_bytes((mirror / package.path).read_bytes()[:100])
    with serving(mirror, ranges=ranges) as (address, asked):
        fetch(place, packages[:1], sources(address))
    assert asked[0][1] == "bytes=100-"
    assert kept(place, package).read_bytes() == (mirror / package.path).read_bytes()
    assert not part.exists()


def test_a_beginning_of_something_else_is_fetched_again(
    tmp_path: Path, mirror: Path, packages: tuple[Package, ...]
) -> None:
    place = plain_place(tmp_path / "place")
    package = packages[0]
    part = place.downloads / f"deb/sha256/.{package.sha256}.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(b"x" * package.size)
    with serving(mirror) as (address, _):
        fetch(place, packages[:1], sources(address))
    assert kept(place, package).read_bytes() == (mirror / package.path).read_bytes()


def test_one_that_was_damaged_here_is_fetched_again(
    tmp_path: Path, mirror: Path, packages: tuple[Package, ...]
) -> None:
    place = plain_place(tmp_path / "place")
    fetch(place, packages, sources(f"file:{mirror}"))
    path = kept(place, packages[0])
    data = path.read_bytes()
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    fetch(plain_place(tmp_path / "again", downloads=place.downloads), packages, sources(f"file:{mirror}"))
    assert path.read_bytes() == data


def test_the_next_mirror_has_it(tmp_path: Path, mirror: Path, packages: tuple[Package, ...]) -> None:
    (tmp_path / "empty").mkdir()
    place = plain_place(tmp_path / "place")
    with serving(mirror) as (good, _), serving(tmp_path / "empty") as (empty, asked):
        fetch(place, packages, sources(empty, good))
        assert asked
    assert all(kept(place, package).exists() for package in packages)


def test_gone_from_every_mirror(tmp_path: Path, mirror: Path, packages: tuple[Package, ...]) -> None:
    gone = next(package for package in packages if package.name == "tool")
    (mirror / gone.path).unlink()
    place = plain_place(tmp_path / "place")
    with serving(mirror) as (address, _):
        with pytest.raises(NotFound) as caught:
            fetch(place, packages, sources(address, f"file:{mirror}"))
    assert caught.value.what == "gone from every mirror: tool 1:2.0"
    assert "wherry host lock" in (caught.value.hint or "")
    assert all(kept(place, package).exists() for package in packages if package != gone)


@pytest.mark.parametrize("longer", [True, False])
def test_another_file_of_that_name(tmp_path: Path, mirror: Path, packages: tuple[Package, ...], longer: bool) -> None:
    package = packages[0]
    data = (mirror / package.path).read_bytes()
    (mirror / package.path).write_bytes(data + b"more" if longer else bytes([data[0] ^ 1]) + data[1:])
    place = plain_place(tmp_path / "place")
    with serving(mirror) as (address, _):
        with pytest.raises((IntegrityError, NetworkError), match=package.name):
            fetch(place, packages, sources(address))
    assert not kept(place, package).exists()


def test_mirrors_that_are_down(tmp_path: Path, packages: tuple[Package, ...]) -> None:
    with pytest.raises(NetworkError, match=r"cannot fetch .*it goes on where it stopped"):
        fetch(plain_place(tmp_path / "place"), packages, sources("http://127.0.0.1:9"))


def test_offline(tmp_path: Path, mirror: Path, packages: tuple[Package, ...]) -> None:
    place = plain_place(tmp_path / "place")
    with pytest.raises(NotFound, match="3 packages are not here"):
        fetch(place, packages, [], offline=True)
    fetch(place, packages, sources(f"file:{mirror}"))
    fetch(plain_place(tmp_path / "again", downloads=place.downloads), packages, [], offline=True)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "small"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", str(folder)], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk(tmp_path: Path, small_disk: Path, mirror: Path, packages: tuple[Package, ...]) -> None:
    import os

    big = mirror / "big.deb"
    big.write_bytes(os.urandom(200_000))
    import hashlib

    package = replace(packages[0], path="big.deb", size=200_000, sha256=hashlib.sha256(big.read_bytes()).hexdigest())
    place = plain_place(tmp_path / "place", downloads=small_disk)
    with serving(mirror) as (address, _):
        with pytest.raises(NoSpace):
            fetch(place, [package], sources(address))
