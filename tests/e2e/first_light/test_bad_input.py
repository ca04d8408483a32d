"""Everything that goes wrong for a user: one line with what, where and what to do, the exit code, nothing lost."""

from __future__ import annotations

import shutil
import socket
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from wherry.core.errors import Conflict, InvalidInput, NetworkError, NoSpace, NotFound

if TYPE_CHECKING:
    from tests.e2e.first_light.conftest import World


_FAKETIME = "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1"


def _first(world: World) -> str:
    one = world.deploy("one")
    world.wait("revision one", world.settled(one, "done"))
    assert world.shown() == "one"
    return one


def test_compose_typo(bare_world: World) -> None:
    world = bare_world
    world.write("compose.yaml", "services:\n  web:\n    image: demo/busybox:1\n    enviroment: {A: b}\n")
    error = world.wherry("commit", "-a", "-m", "x", cwd=world.project, expect=InvalidInput.exit_code)
    assert "compose.yaml:4" in error
    assert "enviroment" in error
    assert "environment" in error.replace("enviroment", ""), "it guesses what was meant"


def test_unknown_image(bare_world: World) -> None:
    world = bare_world
    world.write("compose.yaml", "services:\n  web:\n    image: demo/nothing:9\n")
    error = world.wherry("commit", "-a", "-m", "x", cwd=world.project, expect=NotFound.exit_code)
    assert "demo/nothing:9" in error
    assert "wherry image import" in error
    error = world.wherry("run", "demo/nothing:9", expect=125)
    assert "demo/nothing:9" in error


def test_port_in_use(bare_world: World) -> None:
    world = bare_world
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", world.port))
        holder.listen()
        error = world.wherry("run", "--rm", "-p", f"127.0.0.1:{world.port}:80", "demo/busybox:1", "true", expect=125)
    assert str(world.port) in error
    assert "in use" in error
    assert world.json("ps", "-a") == []


def test_hub_is_down(bare_world: World) -> None:
    world = bare_world
    world.serve()
    world.wherry("fleet", "login", world.hub_url, "--user", "admin")
    world.wherry("remote", "add", "origin", world.hub_url, cwd=world.project)
    one = world.commit("one")
    world.stop("hub")
    for command in (("push",), ("fleet", "devices")):
        error = world.wherry(*command, cwd=world.project, expect=NetworkError.exit_code)
        assert world.hub_url.removesuffix("/") in error
        assert "refused" in error
    world.serve()
    assert one[:12] in world.wherry("push", cwd=world.project)


def test_clock_in_1970(world: World) -> None:
    """A device without a clock updates all the same."""
    _first(world)
    world.stop("device")
    world.headline("two")
    two = world.deploy("two")
    world.run_device(LD_PRELOAD=_FAKETIME, FAKETIME="@1970-01-01 00:00:10")
    world.wait("revision two", world.settled(two, "done"))
    assert world.shown() == "two"


def test_wrong_key(world: World, tmp_path: Path) -> None:
    """A revision by somebody else's key is refused before anything is touched."""
    one = _first(world)
    before = world.apps()
    key = world.project / ".wherry/key"
    shutil.move(key, tmp_path / "owner.key")
    key.with_name("key.pub").unlink()
    world.wherry("key", "generate", str(key))
    world.headline("two")
    world.deploy("two")
    world.wait("the refusal", world.settled(one, "refused"))
    assert "sign" in world.device()["detail"]
    assert world.shown() == "one"
    assert world.apps()["web"]["pid"] == before["web"]["pid"]


def test_changed_object(world: World) -> None:
    """An object that was changed on the hub is found out, named, and not run; when it is mended, the update goes on."""
    one = _first(world)
    world.stop("device")
    world.headline("two, with a file of its own")
    two = world.deploy("two")
    repo = world.hub_dir / "repo"
    newest = max((repo / "objects").rglob("*.filez"), key=lambda path: path.stat().st_mtime_ns)
    good = newest.read_bytes()
    newest.write_bytes(good[:-1] + bytes([good[-1] ^ 0xFF]))
    world.run_device()
    world.wait("the failure", lambda: world.device()["update_state"] in ("failed", "refused"))
    detail = world.device()["detail"]
    assert newest.parent.name + newest.name.removesuffix(".filez") in detail.replace("/", ""), detail
    assert world.device()["current"] == one
    assert world.shown() == "one"
    newest.write_bytes(good)
    world.wherry("fleet", "assign", "kiosk-1", two)
    world.wait("revision two", world.settled(two, "done"))


def test_truncated_download(world: World) -> None:
    """A file that ends early on the way is fetched again from where it broke off, or refused, never taken."""
    one = _first(world)
    world.stop("device")
    world.headline("two, with a file of its own")
    two = world.deploy("two")
    objects = world.hub_dir / "repo/objects"
    newest = max(objects.rglob("*.filez"), key=lambda path: path.stat().st_mtime_ns)
    good = newest.read_bytes()
    newest.write_bytes(good[: len(good) // 2])
    world.run_device()
    world.wait("the failure", lambda: world.device()["update_state"] in ("failed", "refused"))
    assert world.device()["current"] == one
    newest.write_bytes(good)
    world.wherry("fleet", "assign", "kiosk-1", two)
    world.wait("revision two", world.settled(two, "done"))


def test_full_disk(bare_world: World) -> None:
    """What will not fit is refused before it begins, with numbers."""
    world = bare_world
    small = world.base / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(small)], check=True)
    try:
        world.device_dir = small / "device"
        world.serve()
        world.wherry("fleet", "login", world.hub_url, "--user", "admin")
        world.wherry("remote", "add", "origin", world.hub_url, cwd=world.project)
        world.enrol()
        one = _first(world)
        world.write("config/web/site/large", "".join(chr(33 + (i * i) % 90) for i in range(30_000_000)))
        world.deploy("too large")
        world.wait("the refusal", world.settled(one, "refused"))
        assert "MB" in world.device()["detail"]
        assert world.shown() == "one"
        world.stop("device")
        world.wherry("device", "down", "--dir", str(world.device_dir))
    finally:
        subprocess.run(["umount", str(small)], check=True)
        world.device_dir = world.base / "gone"


def test_full_disk_on_import(bare_world: World, tmp_path: Path) -> None:
    world = bare_world
    small = tmp_path / "tiny"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(small)], check=True)
    try:
        tree = tmp_path / "tree"
        tree.mkdir()
        (tree / "big").write_bytes(bytes(4_000_000))
        (tree / "big2").write_bytes(bytes(range(256)) * 16_000)
        error = world.wherry(
            "--root", str(small), "image", "import", str(tree), "--name", "x:1", expect=NoSpace.exit_code
        )
        assert "space" in error
        assert world.wherry("store", "--repo", str(small / "store"), "fsck") is not None
    finally:
        subprocess.run(["umount", str(small)], check=True)


@pytest.mark.parametrize("command", [["status"], ["commit", "-m", "x"], ["push"], ["log"]])
def test_not_a_project(bare_world: World, tmp_path: Path, command: list[str]) -> None:
    error = bare_world.wherry(*command, cwd=tmp_path, expect=NotFound.exit_code)
    assert "wherry init" in error


def test_two_inits(bare_world: World) -> None:
    error = bare_world.wherry("init", str(bare_world.project), expect=Conflict.exit_code)
    assert str(bare_world.project) in error
