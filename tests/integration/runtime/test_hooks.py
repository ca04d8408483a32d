"""Hooks: when each of them runs, where, with which state, and what its failure does."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest
from tests.integration.runtime.containers import Runner, exit_status, make_spec

from wherry.core.errors import NotFound
from wherry.runtime import container
from wherry.runtime.hooks import HookError, run_hooks
from wherry.runtime.spec import Hook, Hooks
from wherry.runtime.state import load_state

POINTS = ("prestart", "create_runtime", "create_container", "start_container", "poststart", "poststop")


def writing(path: str, *, more: str = "") -> tuple[Hook, ...]:
    """A hook that writes the state, and the namespaces that it is in, to a file."""
    script = f"(cat; echo; readlink /proc/self/ns/mnt; hostname) > {path}; {more}"
    return (Hook(path="/bin/sh", args=("sh", "-c", script), env=("PATH=/bin:/usr/bin",)),)


def report(path: Path) -> tuple[dict[str, Any], str, str]:
    state, space, host = path.read_text().splitlines()
    return json.loads(state), space, host


def test_each_point_at_its_time_and_place(runner: Runner, rootfs: Path, tmp_path: Path) -> None:
    (rootfs / "out").mkdir()
    places = {point: tmp_path / point for point in POINTS if point != "start_container"}
    hooks = Hooks(
        **{point: writing(str(path)) for point, path in places.items()}, start_container=writing("/out/start")
    )
    spec = make_spec("sh", "-c", "test -e /out/start && exit 9", hooks=hooks, annotations={"a": "b"})
    created = runner.create(spec, rootfs)
    assert [point for point in POINTS if point in places and places[point].exists()] == list(POINTS[:3])
    assert not (rootfs / "out/start").exists()
    here = os.readlink("/proc/self/ns/mnt")
    for point, status in (("prestart", "created"), ("create_runtime", "creating")):
        state, space, host = report(places[point])
        assert (state["status"], state["pid"], space) == (status, created.pid, here)
        assert host != "box"
    state, space, host = report(places["create_container"])
    # Of the container's namespaces, and still in the host's tree: it could write to a path there.
    assert (state["status"], state["pid"], host) == ("creating", 1, "box")
    assert space == os.readlink(f"/proc/{created.pid}/ns/mnt") != here
    assert not places["poststart"].exists()
    container.start(created)
    state, space, _ = report(places["poststart"])
    assert (state["status"], state["pid"], space, state["annotations"]) == ("running", created.pid, here, {"a": "b"})
    assert json.loads((rootfs / "out/start").read_text().splitlines()[0])["status"] == "created"
    assert exit_status(created.pid) == 9
    assert not places["poststop"].exists()
    container.delete(created.state_dir)
    state, space, _ = report(places["poststop"])
    assert (state["status"], state["pid"], space) == ("stopped", 0, here)


def test_before_the_pivot_the_root_is_mounted(runner: Runner, rootfs: Path, tmp_path: Path) -> None:
    out = tmp_path / "mounts"
    script = f"cat /proc/self/mountinfo > {out}; ls {rootfs}/proc/self >/dev/null"
    hook = Hook(path="/bin/sh", args=("sh", "-c", script), env=("PATH=/bin:/usr/bin",))
    created = runner.create(make_spec("true", hooks=Hooks(create_container=(hook,))), rootfs)
    assert f" {rootfs}/proc " in out.read_text()
    container.abandon(created)


@pytest.mark.parametrize("point", ["prestart", "create_runtime", "create_container"])
def test_a_failure_stops_the_creation_and_what_comes_after_it(
    runner: Runner, rootfs: Path, tmp_path: Path, point: str
) -> None:
    failing = Hook(path="/bin/sh", args=("sh", "-c", "exit 3"))
    hooks = Hooks(**{point: (failing, *writing(str(tmp_path / "second")))}, poststop=writing(str(tmp_path / "stop")))
    with pytest.raises(Exception, match="hook ended with status 3"):
        runner.create(make_spec("true", hooks=hooks), rootfs)
    with pytest.raises(NotFound):
        load_state(runner.states[-1])
    assert not (tmp_path / "second").exists()
    assert report(tmp_path / "stop")[0]["status"] == "stopped"


def test_a_failure_at_the_start_stops_the_container(runner: Runner, rootfs: Path) -> None:
    hooks = Hooks(start_container=(Hook(path="/bin/false"),))
    created = runner.create(make_spec("touch", "/ran", hooks=hooks), rootfs)
    with pytest.raises(Exception, match="startContainer hook"):
        container.start(created)
    assert not (rootfs / "ran").exists()


def test_failures_afterwards_are_told_and_change_nothing(runner: Runner, rootfs: Path, tmp_path: Path) -> None:
    told: list[str] = []
    failing = Hook(path="/bin/false")
    hooks = Hooks(
        poststart=(failing, *writing(str(tmp_path / "start"))), poststop=(failing, *writing(str(tmp_path / "stop")))
    )
    created = runner.create(make_spec("true", hooks=hooks), rootfs)
    container.start(created, warn=told.append)
    assert exit_status(created.pid) == 0
    container.delete(created.state_dir, warn=told.append)
    assert [text.partition(":")[0] for text in told] == [
        "the poststart hook ended with status 1",
        "the poststop hook ended with status 1",
    ]
    assert (tmp_path / "start").exists()
    assert (tmp_path / "stop").exists()


def test_a_hook_that_takes_too_long_is_killed(tmp_path: Path) -> None:
    began = time.monotonic()
    hook = Hook(path="/bin/sh", args=("sh", "-c", f"exec sleep 1000 > {tmp_path}/out"), timeout_s=1)
    with pytest.raises(HookError, match="took longer than 1 s"):
        run_hooks("prestart", (hook,), b"{}")
    assert time.monotonic() - began < 100
    assert "sleep\x001000" not in "".join(
        path.read_bytes().decode(errors="replace")
        for path in Path(f"/proc/{os.getpid()}/task/{os.getpid()}").glob("children")
    )


def test_a_hook_that_is_not_there_or_dies_is_named() -> None:
    with pytest.raises(HookError, match=r"cannot be run: No such file.*: /nowhere"):
        run_hooks("prestart", (Hook(path="/nowhere"),), b"{}")
    with pytest.raises(HookError, match="was killed by signal 9"):
        run_hooks("prestart", (Hook(path="/bin/sh", args=("sh", "-c", "kill -9 $$")),), b"{}")


def test_a_hook_that_does_not_read_its_state_is_no_failure() -> None:
    run_hooks("prestart", (Hook(path="/bin/true"),), b"x" * 200_000)


def test_a_hook_has_its_own_environment_alone(tmp_path: Path) -> None:
    out = tmp_path / "env"
    hook = Hook(path="/usr/bin/env", args=("env",), env=("A=1", "B=x=y"))
    read_end, write_end = os.pipe()
    saved = os.dup(1)
    os.dup2(write_end, 1)
    try:
        run_hooks("prestart", (hook,), b"{}")
    finally:
        os.dup2(saved, 1)
        for fd in (saved, write_end):
            os.close(fd)
    out.write_bytes(os.read(read_end, 4096))
    os.close(read_end)
    assert sorted(out.read_text().splitlines()) == ["A=1", "B=x=y"]
