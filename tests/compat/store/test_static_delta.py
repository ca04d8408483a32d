"""Static deltas of the real tool apply with Wherry, and the other way round; both see the same in them."""

from __future__ import annotations

import os
import random
import subprocess
from pathlib import Path

import pytest
from tests.compat.store.archive_server import serving
from tests.compat.store.conftest import ostree

from wherry.core.digest import Checksum
from wherry.store.care.fsck import fsck
from wherry.store.format.objects import Mode, ObjectType
from wherry.store.repository import Repository
from wherry.store.static_delta import apply, index, names
from wherry.store.static_delta.generate import Options, generate
from wherry.store.static_delta.superblock import Endianness, parse_superblock

UPSTREAM = Path("/usr/libexec/installed-tests/libostree")
KEEP_ALL = ["--min-fallback-size=0"]


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Checksum, Checksum]:
    """Returns an archive repository, and two commits of it made by the real tool."""
    base = tmp_path_factory.mktemp("pair")
    tree, repo = base / "tree", base / "repo"
    (tree / "usr/bin").mkdir(parents=True)
    (tree / "usr/lib/1.0").mkdir(parents=True)
    noise = random.Random(5)
    programs = {name: Path(f"/bin/{name}").read_bytes()[:300_000] for name in ("bash", "tar", "sed")}
    for name, data in programs.items():
        (tree / "usr/bin" / name).write_bytes(data)
    (tree / "usr/lib/1.0/lib.so").write_bytes(programs["bash"][:150_000])
    (tree / "usr/lib/moved").write_bytes(noise.randbytes(100_000))
    (tree / "mode").write_bytes(b"same" * 9000)
    (tree / "private").write_bytes(b"secret" * 900)
    (tree / "private").chmod(0o600)
    (tree / "text").write_text("one\ntwo\n" * 500)
    (tree / "attributes").write_bytes(b"a")
    os.setxattr(tree / "attributes", "user.b", b"value")
    os.setxattr(tree / "attributes", "user.a", b"other")
    ostree("init", f"--repo={repo}", "--mode=archive")
    first = ostree("commit", f"--repo={repo}", "-b", "os", f"--tree=dir={tree}").strip()
    (tree / "usr/lib/1.0").rename(tree / "usr/lib/1.1")
    (tree / "usr/lib/1.1/lib.so").write_bytes(programs["bash"][:90_000] + b"new" + programs["bash"][91_000:150_000])
    (tree / "usr/bin/bash").write_bytes(b"header" + programs["bash"][:-7000] + b"tail")
    (tree / "usr/bin/tar").write_bytes(programs["tar"].replace(b"tar", b"TAR"))
    (tree / "mode").chmod(0o755)
    (tree / "private").write_bytes(b"secret" * 900 + b"more")
    (tree / "text").write_text("one\ntwo\nthree\n" * 500)
    (tree / "empty").write_bytes(b"")
    (tree / "link").symlink_to("usr/bin/bash")
    (tree / "attributes").write_bytes(b"b")
    os.setxattr(tree / "attributes", "user.c", b"third")
    second = ostree("commit", f"--repo={repo}", "-b", "os", f"--tree=dir={tree}").strip()
    return repo, Checksum(first), Checksum(second)


def with_first(path: Path, mode: Mode, source: Path, commit: Checksum) -> Path:
    ostree("init", f"--repo={path}", f"--mode={mode}")
    ostree("pull-local", f"--repo={path}", source, commit)
    return path


def checked(repo: Path, commit: Checksum) -> None:
    """Both programs find every object of a commit right, and nothing missing."""
    ostree("fsck", f"--repo={repo}")
    opened = Repository.open(repo)
    assert fsck(opened).ok
    assert opened.has(ObjectType.COMMIT, commit)
    assert not opened.is_partial(commit)
    ostree("ls", "-R", f"--repo={repo}", commit)


THEIRS = {
    "default": [],
    "inline": ["--inline"],
    "no-bsdiff": ["--disable-bsdiff"],
    "swapped": ["--swap-endianness"],
    "small-parts": ["--max-chunk-size=1"],
}


@pytest.mark.parametrize(
    ("name", "mode"),
    [
        *((name, Mode.BARE_USER) for name in THEIRS),
        ("default", Mode.BARE),
        ("default", Mode.ARCHIVE),
        ("no-bsdiff", Mode.ARCHIVE),
    ],
)
def test_theirs_with_ours(tmp_path: Path, pair: tuple[Path, Checksum, Checksum], name: str, mode: Mode) -> None:
    repo, first, second = pair
    delta = tmp_path / "delta"
    delta.mkdir()
    args = [f"--from={first}", f"--to={second}", f"--filename={delta}/superblock", *KEEP_ALL, *THEIRS[name]]
    ostree("static-delta", "generate", f"--repo={repo}", *args)
    dest = with_first(tmp_path / "dest", mode, repo, first)
    apply.apply_offline(Repository.open(dest), delta)
    checked(dest, second)


OURS = {
    "default": Options(min_fallback_bytes=0),
    "inline": Options(min_fallback_bytes=0, inline=True),
    "no-bsdiff": Options(min_fallback_bytes=0, max_bsdiff_bytes=0),
    "swapped": Options(min_fallback_bytes=0, endianness=Endianness.BIG),
    "small-parts": Options(min_fallback_bytes=0, max_chunk_bytes=1_000_000),
}


@pytest.mark.parametrize(("name", "mode"), [*((name, Mode.BARE_USER) for name in OURS), ("default", Mode.BARE)])
def test_ours_with_theirs(tmp_path: Path, pair: tuple[Path, Checksum, Checksum], name: str, mode: Mode) -> None:
    repo, first, second = pair
    (tmp_path / "delta").mkdir()
    report = generate(Repository.open(repo), first, second, options=OURS[name], path=tmp_path / "delta/superblock")
    assert report.patched + report.copied >= 3
    dest = with_first(tmp_path / "dest", mode, repo, first)
    ostree("static-delta", "apply-offline", f"--repo={dest}", tmp_path / "delta")
    checked(dest, second)


def test_ours_is_not_larger(tmp_path: Path, pair: tuple[Path, Checksum, Checksum]) -> None:
    repo, first, second = pair
    for name in ("ours", "theirs"):
        (tmp_path / name).mkdir()
    generate(Repository.open(repo), first, second, path=tmp_path / "ours/superblock")
    args = [f"--from={first}", f"--to={second}", f"--filename={tmp_path}/theirs/superblock"]
    ostree("static-delta", "generate", f"--repo={repo}", *args)
    sizes = {name: sum(path.stat().st_size for path in (tmp_path / name).iterdir()) for name in ("ours", "theirs")}
    assert sizes["ours"] <= sizes["theirs"] * 1.01, sizes


def test_from_nothing_both_ways(tmp_path: Path, pair: tuple[Path, Checksum, Checksum]) -> None:
    repo, first, _ = pair
    (tmp_path / "delta").mkdir()
    generate(Repository.open(repo), None, first, path=tmp_path / "delta/superblock", options=OURS["default"])
    ostree("init", f"--repo={tmp_path}/theirs", "--mode=bare-user")
    ostree("static-delta", "apply-offline", f"--repo={tmp_path}/theirs", tmp_path / "delta")
    checked(tmp_path / "theirs", first)
    args = ["--empty", f"--to={first}", f"--filename={tmp_path}/delta/superblock", *KEEP_ALL]
    ostree("static-delta", "generate", f"--repo={repo}", *args)
    ours = Repository.init(tmp_path / "ours", Mode.ARCHIVE)
    apply.apply_offline(ours, tmp_path / "delta")
    checked(ours.path, first)


def test_what_does_not_compress(tmp_path: Path) -> None:
    """Such contents have a part of their own; the real tool reads that."""
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "noise").write_bytes(random.Random(6).randbytes(4_500_000))
    ostree("init", f"--repo={tmp_path}/repo", "--mode=archive")
    commit = Checksum(ostree("commit", f"--repo={tmp_path}/repo", "-b", "os", f"--tree=dir={tree}").strip())
    (tmp_path / "delta").mkdir()
    opened = Repository.open(tmp_path / "repo")
    report = generate(opened, None, commit, path=tmp_path / "delta/superblock", options=OURS["default"])
    assert len(report.parts) == 2
    ostree("init", f"--repo={tmp_path}/theirs", "--mode=bare-user")
    ostree("static-delta", "apply-offline", f"--repo={tmp_path}/theirs", tmp_path / "delta")
    checked(tmp_path / "theirs", commit)


@pytest.mark.parametrize("maker", ["ours", "theirs"])
@pytest.mark.parametrize("indexed", [False, True])
def test_pull_over_http(tmp_path: Path, pair: tuple[Path, Checksum, Checksum], maker: str, indexed: bool) -> None:
    """A server's deltas, and its list of them, made by one program, are pulled by the other."""
    origin, first, second = pair
    repo = tmp_path / "served"
    ostree("init", f"--repo={repo}", "--mode=archive")
    for commit in (first, second):
        ostree("pull-local", f"--repo={repo}", origin, commit)
    ostree("refs", f"--repo={repo}", "--create=os", second)
    if indexed:
        ostree("config", f"--repo={repo}", "set", "core.no-deltas-in-summary", "true")
    run = wherry if maker == "ours" else ostree
    for args in (["--from", first, "--to", second], ["--empty", first]):
        run("static-delta", "generate", f"--repo={repo}", *KEEP_ALL, *args)
    run("summary", f"--repo={repo}", "-u")
    dest = tmp_path / "dest"
    ostree("init", f"--repo={dest}", "--mode=bare-user")
    with serving(repo.parent) as server:
        ostree("remote", "add", f"--repo={dest}", "--no-gpg-verify", "origin", f"{server.url}/served")
        pull = ostree if maker == "ours" else wherry
        for commit in (first, second):
            pull("pull", f"--repo={dest}", "--require-static-deltas", "origin", commit)
        loose = [path for path in server.objects() if not path.endswith((".commit", ".commitmeta"))]
        assert not loose or pull is ostree  # which goes through the tree while the part is not applied yet
        assert sum("/deltas/" in path for path in server.requests) >= 4
        assert any("/delta-indexes/" in path for path in server.requests) or not indexed
    checked(dest, second)


def test_both_show_the_same(tmp_path: Path, pair: tuple[Path, Checksum, Checksum]) -> None:
    repo, first, second = pair
    name = names.delta_name(first, second)
    ostree("static-delta", "generate", f"--repo={repo}", f"--from={first}", f"--to={second}")
    theirs = ostree("static-delta", "show", f"--repo={repo}", name)
    assert ours(repo, "show", name) == theirs
    assert ours(repo, "list") == ostree("static-delta", "list", f"--repo={repo}")
    generate(Repository.open(repo), first, second)
    assert ours(repo, "show", name) == ostree("static-delta", "show", f"--repo={repo}", name)
    ostree("static-delta", "reindex", f"--repo={repo}")
    path = repo / names.index_path(second)
    theirs_raw = path.read_bytes()
    path.unlink()
    index.reindex(Repository.open(repo))
    assert path.read_bytes() == theirs_raw
    assert ours(repo, "indexes") == ostree("static-delta", "indexes", f"--repo={repo}")
    assert ours(repo, "delete", name) == ""
    assert ours(repo, "list") == "(No static deltas)\n" == ostree("static-delta", "list", f"--repo={repo}")


def ours(repo: Path, *args: str) -> str:
    return wherry("static-delta", *args, f"--repo={repo}")


def wherry(*args: str | Path) -> str:
    done = subprocess.run([".venv/bin/wherry", "store", *args], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode()


@pytest.mark.parametrize(
    ("name", "orders"), [("big", {Endianness.BIG, Endianness.LITTLE}), ("little", {Endianness.LITTLE})]
)
def test_deltas_before_endianness_was_written(tmp_path: Path, name: str, orders: set[Endianness]) -> None:
    """Each archive has the same small little-endian delta, of which the real tool thinks that it is big-endian."""
    found = set()
    subprocess.run(["tar", "-xf", UPSTREAM / f"pre-endian-deltas-repo-{name}.tar.xz", "-C", tmp_path], check=True)
    repo = Repository.open(tmp_path / "pre-endian-deltas-repo")
    for delta in names.list_deltas(repo):
        block = parse_superblock((repo.path / names.delta_path(*delta)).read_bytes())
        assert block.endianness_guessed
        found.add(block.endianness)
        assert all(part.size_bytes < 1_000_000 for part in block.parts)
        target = tmp_path / delta[1]
        dest = Repository.init(target, Mode.BARE_USER)
        if delta[0] is not None:
            ostree("pull-local", f"--repo={target}", repo.path, delta[0])
        for item in block.fallbacks:
            dest.write_object(item.kind, repo.object_path(item.kind, item.checksum).read_bytes(), item.checksum)
        apply.apply_offline(dest, repo.path / names.delta_folder(*delta))
        checked(target, delta[1])
    assert found == orders
