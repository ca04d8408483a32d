"""Other architectures: what binfmt_misc says, and what that means for a container."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from wherry.core.errors import InvalidInput, Unsupported
from wherry.engine import foreign, platforms

QEMU = """enabled
interpreter /usr/libexec/qemu-binfmt/{name}
flags: {flags}
offset 0
magic {magic}
mask ffffffffffffff00fffffffffffffffffeffffff
"""
OTHER = "s390x" if os.uname().machine != "s390x" else "riscv64"


def entry_for(architecture: str, flags: str) -> str:
    magic = foreign.head_of(architecture)[:20].hex()
    return QEMU.format(name=architecture, flags=flags, magic=magic)


def test_entries() -> None:
    found = foreign.parse_entry(entry_for("arm64", "PF"))
    assert found is not None
    assert (found.interpreter, found.flags) == ("/usr/libexec/qemu-binfmt/arm64", "PF")
    assert found.takes(foreign.head_of("arm64"))
    assert not found.takes(foreign.head_of("arm"))
    assert not found.takes(b"\x7fELF")
    assert not found.takes(foreign.head_of("nonsense"))
    for text in (
        "",
        "disabled\n",
        "enabled\ninterpreter /x\nflags: \nextension .jar\n",
        "enabled\ninterpreter /x\nmagic zz",
    ):
        assert foreign.parse_entry(text) is None


def test_interpreter(tmp_path: Path) -> None:
    (tmp_path / "register").write_text("")
    (tmp_path / "status").write_text("enabled\n")
    with pytest.raises(Unsupported, match="qemu-user-static") as caught:
        foreign.interpreters(OTHER, str(tmp_path))
    assert "mount" not in str(caught.value)
    (tmp_path / "a").write_text(entry_for("loong64", "F"))
    (tmp_path / "b").write_text(entry_for(OTHER, "OC"))
    assert [entry.flags for entry in foreign.interpreters(OTHER, str(tmp_path))] == ["OC"]
    with pytest.raises(Unsupported, match="mount -t binfmt_misc"):
        foreign.interpreters(OTHER, str(tmp_path / "nowhere"))


def test_platforms() -> None:
    assert platforms.parts_of("linux") == ("linux", "", "")
    platforms.check("linux", "", image="an image without a program that tells its architecture")
    assert platforms.parts_of("linux/arm/v7") == ("linux", "arm", "v7")
    assert platforms.parts_of("aarch64") == ("linux", "arm64", "")
    assert platforms.parts_of("") == ("", "", "")
    own = {"x86_64": "amd64", "aarch64": "arm64"}[os.uname().machine]
    platforms.check("", "linux/arm64", image="i")
    platforms.check(f"linux/{own}", own, image="i")
    with pytest.raises(InvalidInput, match="the image is for"):
        platforms.check(f"linux/{own}", f"linux/{OTHER}", image="i")
    with pytest.raises(InvalidInput, match="not linux/arm/v7"):
        platforms.check("linux/arm/v6", "linux/arm/v7", image="i")
    with pytest.raises(Unsupported, match="not for Linux"):
        platforms.check("windows/amd64", "", image="i")


@pytest.mark.parametrize("flags", ["", "F"])
def test_interpreter_is_mounted_where_it_must_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flags: str) -> None:
    program = tmp_path / "qemu"
    program.write_text("")
    found = foreign.Entry(interpreter=str(tmp_path / "link"), flags=flags)
    (tmp_path / "link").symlink_to("qemu")
    monkeypatch.setattr(foreign, "interpreters", lambda architecture: (found,))
    mounts = list(foreign.mounts(f"linux/{OTHER}"))
    assert [(item.source, item.destination) for item in mounts] == (
        [] if flags else [(str(program), str(tmp_path / "link"))]
    )
    program.unlink()
    if not flags:
        with pytest.raises(Unsupported, match="not there"):
            list(foreign.mounts(f"linux/{OTHER}"))


def test_trees_say_what_they_are_for(tmp_path: Path) -> None:
    assert foreign.platform_of_tree(str(tmp_path)) == ""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/busybox").write_bytes(foreign.head_of("arm"))
    assert foreign.platform_of_tree(str(tmp_path)) == "linux/arm"
    assert foreign.platform_of_tree(str(tmp_path / "nowhere")) == ""
    (tmp_path / "bin/busybox").unlink()
    (tmp_path / "bin/sh").symlink_to("/bin/true")  # in the tree, where it is not
    assert foreign.platform_of_tree(str(tmp_path)) == ""
