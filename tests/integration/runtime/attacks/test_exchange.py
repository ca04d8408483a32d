"""A process that exchanges a folder and a link in a volume, as fast as it can, while containers are made.

Source: CVE-2021-30465 (a mount's place is exchanged between the look and the mount), CVE-2024-45310 (the same for
folders and files that are made).
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.integration.runtime.attacks.naive import SECRET, fingerprint, make_outside, resolve_by_path
from tests.integration.runtime.roots import Entered, bind, entered, spec_of

from wherry.linux.syscalls import numbers
from wherry.runtime.spec import Mount, Process, Spec

ROUNDS = 60
EXCHANGER = """
import ctypes, sys
syscall = ctypes.CDLL(None).syscall
number, a, b = int(sys.argv[1]), sys.argv[2].encode(), sys.argv[3].encode()
print("go", flush=True)
while True:
    syscall(number, -100, a, -100, b, 2)
"""


@contextmanager
def exchanging(one: Path, other: Path) -> Iterator[None]:
    """Exchanges two names all the time."""
    number = numbers(os.uname().machine)["renameat2"]
    arguments = [sys.executable, "-I", "-S", "-c", EXCHANGER, str(number), str(one), str(other)]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        try:
            yield
        finally:
            process.kill()


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    return make_outside(tmp_path / "outside")


@pytest.fixture
def volume(tmp_path: Path, outside: Path) -> Path:
    volume = tmp_path / "volume"
    (volume / "x").mkdir(parents=True)
    (volume / "x/etc").mkdir()
    (volume / "y").symlink_to(outside)
    return volume


def making(volume: Path, data: Path) -> Spec:
    return spec_of(
        bind(volume, "/vol"),
        bind(data, "/vol/x/new/folder"),
        bind(data / "file", "/vol/x/file"),
        Mount(destination="/vol/x/etc/memory", type="tmpfs", options=("tmpcopyup",)),
        process=Process(args=("sh",), cwd="/vol/x/work/deep"),
        masked_paths=("/vol/x/etc",),
        readonly_paths=("/vol/x",),
    )


def rounds(tree: Path, spec: Spec, count: int, script: str = "cat /vol/x/secret /vol/y/secret") -> Iterator[Entered]:
    for _ in range(count):
        yield entered(tree, spec, f"{script} 2>/dev/null")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    data = tmp_path / "data"
    data.mkdir()
    (data / "file").write_text("of the host")
    return data


def test_what_is_made_and_mounted_stays_in_the_root(rootfs: Path, outside: Path, volume: Path, data: Path) -> None:
    before = fingerprint(outside)
    with exchanging(volume / "x", volume / "y"):
        for seen in rounds(rootfs, making(volume, data), ROUNDS):
            assert SECRET not in seen.out
    assert fingerprint(outside) == before
    assert fingerprint(data)[1][-1] == b"of the host"


def test_the_exchange_works_against_a_naive_runtime(
    rootfs: Path, outside: Path, volume: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = fingerprint(outside)
    resolve_by_path(monkeypatch)
    with exchanging(volume / "x", volume / "y"):
        escaped = any(fingerprint(outside) != before for _ in rounds(rootfs, making(volume, data), ROUNDS))
    assert escaped


def mounting(volume: Path, payload: Path, trusted: Path) -> Spec:
    """The second mount is led over the source of the third, which then comes from the attacker's folder."""
    return spec_of(bind(volume, "/vol"), bind(payload, "/vol/x"), bind(trusted / "etc", "/trusted"))


@pytest.fixture
def payload(tmp_path: Path, outside: Path) -> Path:
    payload = tmp_path / "payload"
    payload.mkdir()
    (payload / "etc").symlink_to(outside)
    return payload


@pytest.fixture
def trusted(tmp_path: Path, volume: Path) -> Path:
    trusted = tmp_path / "trusted"
    (trusted / "etc").mkdir(parents=True)
    (volume / "y").unlink()
    (volume / "y").symlink_to(trusted)
    return trusted


def test_no_mount_is_led_over_another_ones_source(rootfs: Path, volume: Path, payload: Path, trusted: Path) -> None:
    with exchanging(volume / "x", volume / "y"):
        for seen in rounds(rootfs, mounting(volume, payload, trusted), ROUNDS, "cat /trusted/secret"):
            assert SECRET not in seen.out


def test_a_naive_runtime_mounts_the_attackers_source(
    rootfs: Path, volume: Path, payload: Path, trusted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from wherry.linux import mountsteps

    resolve_by_path(monkeypatch)
    monkeypatch.setattr(
        mountsteps, "open_sources", lambda *_, **__: None
    )  # each source is looked up when its turn comes
    with exchanging(volume / "x", volume / "y"):
        spec = mounting(volume, payload, trusted)
        assert any(SECRET in seen.out for seen in rounds(rootfs, spec, ROUNDS, "cat /trusted/secret"))
