"""Which files a command needs: ELF headers, scripts, symlinks, and trees that mean ill."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.fixtures.elves import AARCH64, elf, link, put

from wherry.core.errors import CannotInvoke, CommandNotFound, InvalidInput, NotFound
from wherry.engine.pack.choosing import Wish, choose, obstacle
from wherry.engine.pack.libraries import glob
from wherry.engine.pack.needed import Collector, Needed
from wherry.engine.pack.tree import Tree

LOADER = "/lib64/ld-linux-x86-64.so.2"
TRIPLET = "/usr/lib/x86_64-linux-gnu"


def needed(root: Path, *words: str, add: tuple[str, ...] = (), exclude: tuple[str, ...] = ()) -> Needed:
    wish = Wish(words=words, add=add, exclude=exclude, trace=False)
    return choose(Tree(root), wish).needed


@pytest.fixture
def merged(tmp_path: Path) -> Path:
    """A tree as Debian's: /bin, /lib and /lib64 are symlinks; a program with a chain of libraries."""
    for name in ("bin", "lib", "lib64"):
        (tmp_path / "usr" / name).mkdir(parents=True)
        link(tmp_path, name, f"usr/{name}")
    put(tmp_path, "/usr/bin/app", elf(interpreter=LOADER, needed=["liba.so.1", "libc.so.6"]))
    put(tmp_path, f"{TRIPLET}/liba.so.1.4", elf(needed=["libb.so.2"]))
    link(tmp_path, f"{TRIPLET}/liba.so.1", "liba.so.1.4")
    put(tmp_path, f"{TRIPLET}/libb.so.2", elf())
    put(tmp_path, f"{TRIPLET}/libc.so.6", elf())
    put(tmp_path, f"{TRIPLET}/libnss_dns.so.2", elf())
    put(tmp_path, f"{TRIPLET}/ld-linux-x86-64.so.2", elf())
    link(tmp_path, "/usr/lib64/ld-linux-x86-64.so.2", "../lib/x86_64-linux-gnu/ld-linux-x86-64.so.2")
    put(tmp_path, "/etc/nsswitch.conf", b"hosts: files dns\n", mode=0o644)
    put(tmp_path, "/usr/share/other", b"not needed")
    return tmp_path


def test_program_with_libraries_on_a_merged_tree(merged: Path) -> None:
    found = needed(merged, "app")
    assert found.command == "/usr/bin/app"
    assert found.machine == "x86_64"
    assert found.missing == ()
    assert set(found.files) >= {
        "/lib",
        "/lib64",
        "/usr/bin/app",
        "/usr/lib64/ld-linux-x86-64.so.2",
        f"{TRIPLET}/ld-linux-x86-64.so.2",
        f"{TRIPLET}/liba.so.1",
        f"{TRIPLET}/liba.so.1.4",
        f"{TRIPLET}/libb.so.2",
        f"{TRIPLET}/libnss_dns.so.2",
        "/etc/nsswitch.conf",
    }
    assert "/usr/share/other" not in found.files
    assert found.files[f"{TRIPLET}/libb.so.2"] == f"library of {TRIPLET}/liba.so.1.4"


def test_the_command_by_a_symlinked_folder_keeps_the_link(merged: Path) -> None:
    found = needed(merged, "/bin/app")
    assert found.command == "/bin/app"
    assert {"/bin", "/usr/bin/app"} <= set(found.files)


@pytest.mark.parametrize("field", ["runpath", "rpath"])
def test_origin(tmp_path: Path, field: str) -> None:
    data = (
        elf(needed=["libx.so"], runpath="$ORIGIN/../own")
        if field == "runpath"
        else elf(needed=["libx.so"], rpath="${ORIGIN}/../own")
    )
    put(tmp_path, "/opt/app/bin/run", data)
    put(tmp_path, "/opt/app/own/libx.so", elf(needed=["liby.so"]))
    put(tmp_path, "/opt/app/own/liby.so", elf())
    found = needed(tmp_path, "/opt/app/bin/run")
    assert "/opt/app/own/libx.so" in found.files
    # DT_RPATH goes for what the libraries need as well, DT_RUNPATH does not (ld.so(8)).
    assert ("/opt/app/own/liby.so" in found.files) is (field == "rpath")
    assert bool(found.missing) is (field == "runpath")


def test_library_of_another_machine_is_passed_over(tmp_path: Path) -> None:
    put(tmp_path, "/bin/run", elf(machine=AARCH64, needed=["libx.so"]))
    put(tmp_path, "/usr/lib/aarch64-linux-gnu/libx.so", elf())
    put(tmp_path, "/usr/lib/libx.so", elf(machine=AARCH64))
    found = needed(tmp_path, "/bin/run")
    assert found.machine == "aarch64"
    assert "/usr/lib/libx.so" in found.files
    assert "/usr/lib/aarch64-linux-gnu/libx.so" not in found.files


def test_ld_so_conf_with_includes(tmp_path: Path) -> None:
    put(tmp_path, "/etc/ld.so.conf", b"include /etc/ld.so.conf.d/*.conf\ninclude ld.so.conf\n")
    put(tmp_path, "/etc/ld.so.conf.d/a.conf", b"# a comment\n/opt/libs\n")
    put(tmp_path, "/bin/run", elf(needed=["libx.so"]))
    put(tmp_path, "/opt/libs/libx.so", elf())
    assert "/opt/libs/libx.so" in needed(tmp_path, "run").files


def test_musl_path_file(tmp_path: Path) -> None:
    put(tmp_path, "/lib/ld-musl-x86_64.so.1", elf())
    put(tmp_path, "/etc/ld-musl-x86_64.path", b"/custom\n/lib\n")
    put(tmp_path, "/bin/run", elf(interpreter="/lib/ld-musl-x86_64.so.1", needed=["libx.so"]))
    put(tmp_path, "/custom/libx.so", elf())
    found = needed(tmp_path, "run")
    assert {"/custom/libx.so", "/lib/ld-musl-x86_64.so.1", "/etc/ld-musl-x86_64.path"} <= set(found.files)
    assert found.missing == ()


def test_missing_library_is_told(tmp_path: Path) -> None:
    put(tmp_path, "/bin/run", elf(needed=["libgone.so.3"]))
    assert needed(tmp_path, "run").missing == ("libgone.so.3 (of /bin/run)",)


def test_scripts_and_env(tmp_path: Path) -> None:
    put(tmp_path, "/bin/run", b"#!/usr/bin/env -S python3 -u\nprint()\n")
    put(tmp_path, "/usr/bin/env", elf())
    put(tmp_path, "/usr/bin/python3.11", elf(needed=["libz.so.1"]))
    link(tmp_path, "/usr/bin/python3", "python3.11")
    put(tmp_path, "/lib/libz.so.1", elf())
    found = needed(tmp_path, "run")
    assert {"/usr/bin/env", "/usr/bin/python3", "/usr/bin/python3.11", "/lib/libz.so.1"} <= set(found.files)
    assert found.machine == "x86_64"


def test_links_never_leave_the_tree(tmp_path: Path) -> None:
    put(tmp_path, "/outside/secret", b"secret")
    root = tmp_path / "root"
    put(root, "/bin/run", elf(needed=["libx.so"]))
    link(root, "/lib", "../../outside")
    link(root, "/etc/passwd", "/etc/passwd")
    link(root, "/abs", str(tmp_path / "outside"))
    tree = Tree(root)
    assert tree.find("/lib/secret") is None
    assert tree.find("/../../outside/secret") is None
    assert tree.find("/abs/secret") is None
    assert tree.find("/etc/passwd") is None  # goes in circles
    assert needed(root, "run").missing == ("libx.so (of /bin/run)",)


def test_add_exclude_and_all(merged: Path) -> None:
    put(merged, "/usr/share/data/deep/a.txt", b"a")
    put(merged, "/usr/share/data/b.txt", b"b")
    link(merged, "/usr/share/data/gone", "/nowhere")
    found = needed(merged, "app", add=("/usr/share/da*",), exclude=("/usr/share/data/b*",))
    assert {"/usr/share/data/deep/a.txt", "/usr/share/data/gone"} <= set(found.files)
    assert "/usr/share/data/b.txt" not in found.files
    everything = choose(Tree(merged), Wish(words=("app",), everything=True)).needed
    assert "/usr/share/other" in everything.files
    with pytest.raises(NotFound, match="nothing in the tree"):
        needed(merged, "app", add=("/no/*",))
    with pytest.raises(InvalidInput, match="root"):
        needed(merged, "app", exclude=("/",))


def test_an_added_program_brings_its_libraries(tmp_path: Path) -> None:
    put(tmp_path, "/bin/run", elf())
    put(tmp_path, "/plugins/p.so", elf(needed=["libq.so"]), mode=0o644)
    put(tmp_path, "/lib/libq.so", elf())
    assert "/lib/libq.so" in needed(tmp_path, "run", add=("/plugins",)).files


def test_no_command(tmp_path: Path) -> None:
    put(tmp_path, "/bin/data", b"x", mode=0o644)
    with pytest.raises(CommandNotFound):
        needed(tmp_path, "nothing")
    with pytest.raises(CannotInvoke):
        needed(tmp_path, "/bin/data")
    with pytest.raises(InvalidInput, match="not a folder"):
        Tree(tmp_path / "bin/data")


@pytest.mark.parametrize("length", [4, 20, 63, 70, 130, 200])
def test_cut_elf_is_malformed(tmp_path: Path, length: int) -> None:
    put(tmp_path, "/bin/run", elf(interpreter=LOADER, needed=["liba.so.1"])[:length])
    with pytest.raises(InvalidInput, match="ELF"):
        needed(tmp_path, "run")


def test_glob(tmp_path: Path) -> None:
    for name in ("a1", "a2", ".a3", "b"):
        put(tmp_path, f"/d/{name}")
    tree = Tree(tmp_path)
    assert glob(tree, "/d/a*") == ["/d/a1", "/d/a2"]
    assert glob(tree, "/d/.a?") == ["/d/.a3"]
    assert glob(tree, "/?/[b]") == ["/d/b"]
    assert glob(tree, "/x/*") == []


def test_obstacle_of_another_machine() -> None:
    assert "it is for" in obstacle("pdp11")


def test_collector_needs_a_parent_for_each_file(merged: Path) -> None:
    collector = Collector(Tree(merged))
    collector.add("/bin/app", "x")
    files = collector.result("/bin/app").files
    assert all(str(Path(path).parent) in files for path in files)
