"""What layers lay over a root: overlays, users and hooks, as root."""

from __future__ import annotations

import os
import stat
from pathlib import Path, PurePosixPath

import pytest

from wherry.build.contributions import Line, Part
from wherry.build.overlaying import Over, merge_trees
from wherry.build.users import Accounts, parse_user, salt_of
from wherry.core.errors import InvalidInput


@pytest.fixture
def base(tmp_path: Path) -> Path:
    root = tmp_path / "base"
    for name in ("usr/lib", "etc", "tmp", "root", "dev"):
        (root / name).mkdir(parents=True)
    (root / "lib").symlink_to("usr/lib")
    (root / "loop").symlink_to("loop")
    (root / "tmp").chmod(0o1777)
    (root / "root").chmod(0o700)
    (root / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\nd:x:100:100::/:/bin/false\n")
    (root / "etc/group").write_text("root:x:0:\nshadow:x:42:\nsudo:x:27:\n")
    (root / "etc/shadow").write_text("root:*:1:0:99999:7:::\n")
    (root / "etc/shadow").chmod(0o640)
    os.chown(root / "etc/shadow", 0, 42)
    (root / "etc/old").write_text("base")
    (root / "dev/null").write_text("")
    return root


def layer(tmp_path: Path, name: str, files: dict[str, str]) -> Part:
    top = tmp_path / name
    for path, text in files.items():
        (top / path).parent.mkdir(parents=True, exist_ok=True)
        (top / path).write_text(text)
    top.mkdir(exist_ok=True)
    return Part(layer=name, path=top)


def merged(tmp_path: Path, base: Path, upper: Path) -> Path:
    target = tmp_path / "merged"
    target.mkdir()
    merge_trees(base, upper, target, empty=("dev",))
    return target


def test_the_later_overlay_wins_and_files_are_roots(tmp_path: Path, base: Path) -> None:
    upper = tmp_path / "upper"
    upper.mkdir()
    over = Over(base, upper)
    first = layer(tmp_path, "first", {"etc/old": "1", "opt/a": "a", "lib/x.so": "lib"})
    (first.path / "opt/a").chmod(0o755)
    os.chown(first.path / "opt/a", 1234, 1234)
    (first.path / "tmp").mkdir(mode=0o755)
    over.lay(first)
    over.lay(layer(tmp_path, "second", {"etc/old": "2"}))
    root = merged(tmp_path, base, upper)
    assert (root / "etc/old").read_text() == "2"
    assert (base / "etc/old").read_text() == "base"
    assert stat.S_IMODE((root / "opt/a").stat().st_mode) == 0o755
    assert (root / "opt/a").stat().st_uid == 0
    assert (root / "lib").is_symlink()
    assert (root / "usr/lib/x.so").read_text() == "lib"
    assert stat.S_IMODE((root / "tmp").stat().st_mode) == 0o1777
    assert (root / "etc/passwd").stat().st_ino == (base / "etc/passwd").stat().st_ino
    assert list((root / "dev").iterdir()) == []


def test_a_link_never_leads_out_of_the_root(tmp_path: Path, base: Path) -> None:
    upper = tmp_path / "upper"
    upper.mkdir()
    (base / "out").symlink_to("/../../../../etc")
    over = Over(base, upper)
    over.lay(layer(tmp_path, "evil", {"out/new": "x"}))
    assert (upper / "etc/new").read_text() == "x"
    with pytest.raises(InvalidInput, match="too many links"):
        over.lay(layer(tmp_path, "circle", {"loop/new": "x"}))


@pytest.mark.parametrize("files", [{"etc/old/x": "a folder over a file"}, {"tmp": "a file over a folder"}])
def test_files_and_folders_are_not_mixed_up(tmp_path: Path, base: Path, files: dict[str, str]) -> None:
    upper = tmp_path / "upper"
    upper.mkdir()
    with pytest.raises(InvalidInput, match="overlay of bad"):
        Over(base, upper).lay(layer(tmp_path, "bad", files))


def test_what_goes_is_gone_and_what_is_opaque_hides_the_base(tmp_path: Path, base: Path) -> None:
    upper = tmp_path / "upper"
    (upper / "etc").mkdir(parents=True)
    os.mknod(upper / "etc/old", stat.S_IFCHR, 0)
    (upper / "usr").mkdir()
    os.setxattr(upper / "usr", "trusted.overlay.opaque", b"y")
    root = merged(tmp_path, base, upper)
    assert not (root / "etc/old").exists()
    assert (root / "etc/passwd").exists()
    assert list((root / "usr").iterdir()) == []
    assert "trusted.overlay.opaque" not in os.listxattr(root / "usr")


def line(text: str) -> Line:
    return Line(text=text, layer="l", path="users/t", line=3)


def accounts(tmp_path: Path, base: Path, *lines: str) -> Path:
    upper = tmp_path / "upper"
    upper.mkdir()
    over = Over(base, upper)
    found = Accounts(over, lambda clear, salt: f"$6${salt}${clear}")
    for text in lines:
        found.add(parse_user(line(text)))
    found.write()
    return merged(tmp_path, base, upper)


def test_users_are_added_with_groups_and_homes(tmp_path: Path, base: Path) -> None:
    root = accounts(
        tmp_path,
        base,
        "core -1 core -1 =secret /home/core /bin/sh sudo,gpio The user",
        "svc -2 svc -2 * - - - -",
        "root 0 root 0 $6$x$y /root /bin/bash - -",
        "- -1 extra 3000 - - - - -",
    )
    passwd = (root / "etc/passwd").read_text().splitlines()
    assert "core:x:1000:1000:The user:/home/core:/bin/sh" in passwd
    assert "svc:x:101:101::/:/bin/false" in passwd  # a user has 100, and the new group gpio
    assert passwd[0] == "root:x:0:0::/root:/bin/bash"
    group = (root / "etc/group").read_text().splitlines()
    assert "sudo:x:27:core" in group
    assert "gpio:x:100:core" in group
    assert "extra:x:3000:" in group
    shadow = (root / "etc/shadow").read_text().splitlines()
    assert f"core:$6${salt_of('core', '=secret')}$secret::0:99999:7:::" in shadow
    assert "svc:*::0:99999:7:::" in shadow
    assert "root:$6$x$y::0:99999:7:::" in shadow
    status = (root / "etc/shadow").stat()
    assert (stat.S_IMODE(status.st_mode), status.st_gid) == (0o640, 42)
    home = (root / "home/core").stat()
    assert (home.st_uid, home.st_gid, stat.S_IMODE(home.st_mode)) == (1000, 1000, 0o700)
    assert stat.S_IMODE((root / "root").stat().st_mode) == 0o700


def test_what_overlays_put_into_a_home_is_its_owners(tmp_path: Path, base: Path) -> None:
    upper = tmp_path / "upper"
    upper.mkdir()
    over = Over(base, upper)
    over.lay(layer(tmp_path, "keys", {"home/core/.ssh/authorized_keys": "key"}))
    found = Accounts(over, lambda clear, salt: clear + salt)
    found.add(parse_user(line("core -1 core -1 - /home/core /bin/sh - -")))
    found.write()
    assert os.stat(upper / "home/core/.ssh/authorized_keys").st_uid == 1000
    assert over.find(PurePosixPath("home/core/.ssh")) == upper / "home/core/.ssh"


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("core -1 core -1 -", "not a line of a table"),
        ("core x core -1 - - - - -", "not numbers"),
        ("core -3 core -1 - - - - -", "no such ids"),
        ("co:re -1 core -1 - - - - -", "colon"),
        ("core -1 core -1 - home - - -", "absolute path"),
    ],
)
def test_what_is_no_user_is_told_with_its_place(text: str, what: str) -> None:
    with pytest.raises(InvalidInput, match=what) as error:
        parse_user(line(text))
    assert "l: users/t:3" in str(error.value)
