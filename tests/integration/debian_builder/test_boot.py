"""Hosts out of the distribution's packages, built twice and booted in QEMU to a login."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.fixtures.debian_hosts import CLOUD, booted, cached, host, log_in, take
from tests.fixtures.trees import listing

from wherry.build.executing import Execution, Result
from wherry.build.hosttree import TREE
from wherry.build.locks import make_lock


def assert_same(first: dict[str, Result], second: dict[str, Result]) -> None:
    """Says that two builds came to the same bytes; the step that lays overlays over a root keeps no times."""
    assert listing(first["base"].path) == listing(second["base"].path)
    assert listing(first["boot"].path) == listing(second["boot"].path)
    assert listing(first[TREE].path / "root", times=False) == listing(second[TREE].path / "root", times=False)


@pytest.mark.deep
def test_a_minimal_host_twice_and_a_login(tmp_path: Path) -> None:
    found = host(tmp_path, "amd64", "host/minimal", kernel=CLOUD["amd64"])
    make_lock(found, Execution(cache=cached(tmp_path / "a"), work=found.workspace.work))
    first = take(found, tmp_path / "a")
    second = take(found, cached(tmp_path / "b-elsewhere"))
    assert [result.cached for result in second.values()] == [False] * len(second)
    assert_same(first, second)
    with booted(first, "amd64", tmp_path, "root=/dev/vda") as console:
        log_in(console)
        console.wait_for("I am core on x86_64")
        console.wait_for("root on / type overlay")


@pytest.mark.deep
def test_a_minimal_host_of_another_architecture(tmp_path: Path) -> None:
    found = host(tmp_path, "arm64", "host/minimal", kernel=CLOUD["arm64"])
    make_lock(found, Execution(cache=cached(tmp_path / "a"), work=found.workspace.work))
    results = take(found, tmp_path / "a")
    with booted(results, "arm64", tmp_path, "root=/dev/vda", "wherry.upper=none") as console:
        log_in(console)
        console.wait_for("I am core on aarch64")
        console.wait_for("on / type erofs (ro")


@pytest.mark.deep
def test_a_host_with_systemd(tmp_path: Path) -> None:
    found = host(tmp_path, "amd64", "host/ssh", "host/python", kernel=CLOUD["amd64"])
    make_lock(found, Execution(cache=cached(tmp_path / "a"), work=found.workspace.work))
    first = take(found, tmp_path / "a")
    second = take(found, cached(tmp_path / "b-elsewhere"))
    assert_same(first, second)
    with booted(first, "amd64", tmp_path, "root=/dev/vda", memory=1024) as console:
        log_in(console)
        console.wait_for("I am core on x86_64")
        console.send("systemctl is-system-running --wait; python3 -c 'import asyncio, json, sqlite3; print(6 * 7)'\n")
        console.wait_for("running")
        console.wait_for("42")
