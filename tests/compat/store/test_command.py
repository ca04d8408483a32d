"""The same command lines with both programs: what they print, how they end, and the trees that they lay out."""

from __future__ import annotations

import os
import stat
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from wherry.cli.root import run

MODES = ["archive", "bare", "bare-user", "bare-user-only"]
Words = tuple[str, ...]


class Both:
    """Runs a command with both programs, each on a repository of its own, and compares."""

    def __init__(self, place: Path, capture: pytest.CaptureFixture[bytes]) -> None:
        self.place = place
        self.capture = capture

    def ours(self, words: Words, repo: str = "ours") -> tuple[int, bytes, bytes]:
        self.capture.readouterr()
        status = run(["store", words[0], f"--repo={repo}", *words[1:]])
        out, err = self.capture.readouterr()
        return status, out, err

    def theirs(self, words: Words, repo: str = "theirs") -> tuple[int, bytes, bytes]:
        done = subprocess.run(["ostree", words[0], f"--repo={repo}", *words[1:]], capture_output=True, check=False)
        return done.returncode, done.stdout, done.stderr

    def same(self, *words: str) -> bytes:
        """Returns what both printed."""
        mine, other = self.ours(words), self.theirs(words)
        assert mine[0] == other[0], (words, mine, other)
        assert mine[1] == other[1], (words, mine, other)
        if mine[0]:
            assert b"error: " in mine[2], (words, mine)
        return mine[1]

    def fails(self, *words: str) -> None:
        """Both refuse."""
        assert self.ours(words)[0] == 1, words
        assert self.theirs(words)[0] == 1, words

    def reads(self, *words: str) -> None:
        """The same on both repositories."""
        outputs = {
            self.ours(words, "ours")[:2], self.ours(words, "theirs")[:2], self.theirs(words, "theirs")[:2]
        }  # fmt: skip
        assert len(outputs) == 1, (words, outputs)


@pytest.fixture
def trees(tmp_path: Path) -> Path:
    """Makes two directories, archives of the first and the lists that commit takes; returns their folder."""
    base = tmp_path / "work"
    first, second = base / "A", base / "B"
    (first / "d/deep").mkdir(parents=True)
    (second / "e").mkdir(parents=True)
    (first / "x").write_text("1\n")
    (first / "x").chmod(0o4755)
    (first / "d/f").write_text("2\n")
    (first / "d/empty").touch()
    (first / "link").symlink_to("d/f")
    (first / "up").symlink_to("../x")
    (first / "big").write_bytes(bytes(range(256)) * 4000)
    os.link(first / "d/f", first / "hard")
    (second / "e/y").write_text("3\n")
    second.chmod(0o700)
    os.setxattr(first / "d", "user.t", b"v")
    os.setxattr(first / "d/f", "user.u", b"w")
    (base / "overrides").write_text("2048 /d/f\n=256 /x\n")
    (base / "skips").write_text("/d\n")
    (base / "nothing").write_text("/nowhere\n")
    tar = ["tar", "-C", str(first)]
    subprocess.run([*tar, "-cf", str(base / "a.tar"), "."], check=True)
    subprocess.run([*tar, "-czf", str(base / "a.tar.gz"), "."], check=True)
    subprocess.run([*tar, "--xattrs", "--format=pax", "-cf", str(base / "x.tar"), "."], check=True)
    subprocess.run([*tar, "-cf", str(base / "part.tar"), "d/f", "big"], check=True)
    names = subprocess.run(["find", "."], cwd=first, capture_output=True, check=True).stdout
    for form in ("newc", "odc"):
        packed = subprocess.run(["cpio", "-o", "-H", form], cwd=first, input=names, capture_output=True, check=True)
        (base / f"{form}.cpio").write_bytes(packed.stdout)
    return base


@pytest.fixture
def both(
    trees: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfdbinary: pytest.CaptureFixture[bytes],
    request: pytest.FixtureRequest,
) -> Both:
    """Makes two empty repositories of the mode that the test is for."""
    monkeypatch.chdir(trees)
    found = Both(trees, capfdbinary)
    mode = getattr(request, "param", "archive")
    assert found.ours(("init", f"--mode={mode}"))[0] == 0
    assert found.theirs(("init", f"--mode={mode}"))[0] == 0
    return found


def commit(both: Both, *words: str) -> bytes:
    return both.same("commit", "--timestamp=@1234567890", *words)


COMMITS: list[Words] = [
    ("-b", "main", "A"),
    ("-b", "main", "-s", "subject", "-m", "body\nof lines", "--tree=dir=A", "--tree=dir=B"),
    ("-b", "main", "--tree=ref=main", "--owner-uid=7"),
    ("-b", "main", "--base=main", "--tree=dir=B", "--owner-gid=9"),
    ("-b", "main", "--canonical-permissions", "A"),
    ("-b", "main", "--no-xattrs", "A"),
    ("-b", "main", "--mode-ro-executables", "A"),
    ("-b", "rewritten", "--tree=ref=main", "--mode-ro-executables", "--no-xattrs"),
    ("-b", "main", "--statoverride=overrides", "A"),
    ("-b", "skipped", "--skip-list=skips", "A"),
    ("-b", "main", "--skip-list=skips", "--tree=ref=main"),
    ("-b", "tar", "--tree=tar=a.tar"),
    ("-b", "tar", "--tree=tar=a.tar.gz"),
    ("-b", "tar", "--tree=tar=x.tar"),
    ("-b", "tar", "--tree=tar=newc.cpio"),
    ("-b", "tar", "--tree=tar=odc.cpio"),
    ("-b", "tar", "--tree=tar=part.tar", "--tar-autocreate-parents"),
    ("-b", "tar", "--tree=tar=part.tar", "--tar-autocreate-parents", "--owner-uid=5"),
    ("-b", "tar", "--tree=tar=a.tar", "--tar-pathname-filter=^,foo/", "--tar-autocreate-parents"),
    ("-b", "tar", "--tree=dir=B", "--tree=tar=a.tar"),
    ("-b", "meta", "--add-metadata-string=z=1", "--add-metadata=n=(1,'x',[byte 1])", "--add-metadata-string=a=", "A"),
    ("-b", "meta", "--keep-metadata=n", "--add-detached-metadata-string=k=v", "A"),
    ("-b", "meta", "--skip-if-unchanged", "A"),
    ("--orphan", "A"),
    ("--orphan", "--bind-ref=other", "A"),
    ("-b", "unbound", "--no-bindings", "--bind-ref=x", "A"),
    ("-b", "main", "--parent=none", "A"),
    ("-b", "dated", "--timestamp=2005-10-29 12:43:29 +0000", "A"),
    ("-b", "x/y-z.1", "A"),
]
REFUSED: list[Words] = [
    ("A",),
    ("-b", "main", "--tree=dir=A", "--tree=dir=nowhere"),
    ("-b", "main", "--tree="),
    ("-b", "main", "--tree=what=A"),
    ("-b", "main", "--tree=ref=nowhere"),
    ("-b", "main", "--tree=tar=part.tar"),
    ("-b", "main", "--tree=tar=/dev/null"),
    ("-b", "main", "--skip-list=nothing", "A"),
    ("-b", "main", "--statoverride=nowhere", "A"),
    ("-b", "main", "--canonical-permissions", "--owner-uid=5", "A"),
    ("-b", "main", "--add-metadata=x", "A"),
    ("-b", "main", "--add-metadata=x=foo bar", "A"),
    ("-b", "new", "--keep-metadata=x", "A"),
    ("-b", "main", "--keep-metadata=nowhere", "A"),
    ("-b", "a b", "A"),
    ("-b", "x/../y", "A"),
    ("-b", "main", "--timestamp=garbage", "A"),
    ("-b", "main", "--bootable", "A"),
]
READS: list[Words] = [
    ("ls", "main"),
    ("ls", "-R", "meta"),
    ("ls", "-RCX", "tar"),
    ("ls", "-d", "meta", "/d"),
    ("ls", "meta", "/x", "d"),
    ("ls", "-R", "--nul-filenames-only", "meta"),
    ("ls", "meta", "/x/below"),
    ("ls", "meta", "/nowhere"),
    ("ls", "nowhere"),
    ("cat", "meta", "/x", "/link"),
    ("cat", "meta", "/d"),
    ("cat", "meta", "/nowhere"),
    ("log", "main"),
    ("log", "--raw", "main"),
    ("log", "nowhere"),
    ("show", "main"),
    ("show", "main^"),
    ("show", "--raw", "meta"),
    ("show", "-B", "meta"),
    ("show", "--print-metadata-key=n", "meta"),
    ("show", "-B", "--print-metadata-key=n", "meta"),
    ("show", "--print-metadata-key=nowhere", "meta"),
    ("show", "--print-detached-metadata-key=k", "meta^"),
    ("show", "--print-detached-metadata-key=k", "main"),
    ("show", "--print-related", "main"),
    ("show", "--print-sizes", "main"),
    ("show", "nowhere"),
    ("diff", "main^", "main"),
    ("diff", "main"),
    ("diff", "skipped", "meta"),
    ("diff", "meta", "skipped"),
    ("diff", "--no-xattrs", "unbound", "./A"),
    ("diff", "--owner-uid=1", "meta", "./A"),
    ("diff", "nowhere", "main"),
    ("rev-parse", "main"),
    ("rev-parse", "main^^"),
    ("rev-parse", "nowhere"),
]


@pytest.mark.parametrize(
    "both",
    ["archive", "bare-user", *(pytest.param(mode, marks=pytest.mark.deep) for mode in ("bare", "bare-user-only"))],
    indirect=True,
)
def test_commits(both: Both, request: pytest.FixtureRequest) -> None:
    for words in COMMITS:
        commit(both, *words)
    mode = request.node.callspec.params["both"]
    for words in REFUSED if mode == "archive" else []:
        both.fails("commit", *words)
    for words in READS if mode == "archive" else READS[:12]:
        both.reads(*words)
    dirtree, dirmeta, file = (
        both.ours(("ls", *words))[1].split()[4]
        for words in (("-dC", "main", "/"), ("-dC", "main", "/"), ("-C", "main", "/big"))
    )
    for checksum in (dirtree, dirmeta, file):
        both.reads("show", checksum.decode())


def test_diff_of_directories(both: Both) -> None:
    """The real tool goes by the order of the file system."""
    words = ("diff", "./A", "./B")
    assert sorted(both.ours(words)[1].splitlines()) == sorted(both.theirs(words)[1].splitlines())


def test_sizes_and_stats(both: Both) -> None:
    commit(both, "-b", "main", "--generate-sizes", "B")
    commit(both, "-b", "other", "--tree=dir=A", "--tree=dir=B")
    both.reads("show", "--print-sizes", "main")
    assert (
        both.ours(("diff", "--stats", "main", "other"))[1].splitlines()[:3]
        == (both.theirs(("diff", "--stats", "main", "other"))[1].splitlines()[:3])
    )
    mine = both.ours(("commit", "-b", "table", "--timestamp=@1", "--table-output", "A"))[1].splitlines()
    other = both.theirs(("commit", "-b", "table", "--timestamp=@1", "--table-output", "A"))[1].splitlines()
    assert [line.partition(b":")[0] for line in mine] == [line.partition(b":")[0] for line in other]
    assert mine[0] == other[0]
    both.same("reset", "table", "main")
    both.fails("reset", "nowhere", "main")
    both.fails("reset", "table", "nowhere")
    assert sorted(both.ours(("refs",))[1].split()) == sorted(both.theirs(("refs",))[1].split())


def facts(base: Path, *, times: bool = True) -> dict[str, object]:
    """Returns a laid-out tree: type, mode, owner, attributes, content; whether files are linked; times of directories.

    Copies have the time 0 with Wherry only, directories with ostree, too, unless all is copied. Symbolic links of a
    bare-user-only repository are linked by Wherry only.
    """
    found: dict[str, object] = {}
    for path in [base, *sorted(base.rglob("*"))]:
        status = path.lstat()
        attributes = {name: os.getxattr(path, name, follow_symlinks=False)
                      for name in os.listxattr(path, follow_symlinks=False) if name != "user.ostreemeta"}  # fmt: skip
        content = os.readlink(path) if path.is_symlink() else path.read_bytes() if path.is_file() else None
        time_s = int(status.st_mtime) if times and stat.S_ISDIR(status.st_mode) else 0
        linked = status.st_nlink > 1 and stat.S_ISREG(status.st_mode)
        found[str(path.relative_to(base))] = (
            status.st_mode,
            status.st_uid,
            status.st_gid,
            status.st_rdev,
            linked,
            attributes,
            content,
            time_s,
        )
    return found


CHECKOUTS: dict[str, list[list[Words]]] = {
    "archive": [
        [("main",)],
        [("-U", "main")],
        [("-U", "--disable-cache", "main")],
        [("-C", "main")],
        [("--subpath=/d", "main")],
        [("--subpath=/d/f", "main")],
        [("--subpath=/nowhere", "main")],
        [("--subpath=/nowhere", "--allow-noent", "main")],
        [("--skip-list=skips", "main")],
        [("-H", "main")],
    ],
    "bare": [[("main",)], [("-H", "main")], [("-U", "main")], [("-C", "main")], [("-U", "-H", "main")]],
    "bare-user": [
        [("-U", "-H", "main")],
        [("-U", "main")],
        [("main",)],
        [("-H", "main")],
        [("-U", "-H", "-M", "wide")],
    ],
    "bare-user-only": [[("-U", "-H", "main")], [("main",)], [("-H", "main")], [("wide",)]],
}
UNIONS: list[list[Words]] = [
    [("main",), ("main",)],
    [("main",), ("--union", "over")],
    [("main",), ("--union-add", "over")],
    [("over",), ("--union-add", "main")],
    [("-H", "main"), ("-H", "--union-identical", "beside")],
    [("main",), ("--union", "other")],
    [("-H", "main"), ("-H", "--union-identical", "main")],
    [("-H", "main"), ("-H", "--union-identical", "over")],
    [("main",), ("--union-identical", "over")],
    [("main",), ("--union", "--union-add", "over")],
    [("main",), ("--union", "--whiteouts", "layer")],
    [("main",), ("--union", "layer")],
    [("main",), ("--union", "--whiteouts", "turned")],
    [("main",), ("--union", "turned")],
    [("passed",)],
    [("--process-passthrough-whiteouts", "passed")],
    [("-H", "-C", "main")],
]


def lay_out(both: Both, rounds: list[Words]) -> None:
    """Runs some checkouts into one directory with both programs, and compares what they leave."""
    for number, words in enumerate(rounds):
        mine = both.ours(("checkout", *words, "out-ours"))
        other = both.theirs(("checkout", *words, "out-theirs"))
        assert mine[0] == other[0], (words, mine, other)
        assert mine[1] == other[1] == b""
        if mine[0]:
            break
        if not Path("out-theirs").exists():
            assert not Path("out-ours").exists(), words
            return
        times = "-C" not in words and not number
        assert facts(Path("out-ours"), times=times) == facts(Path("out-theirs"), times=times), (number, words)
    subprocess.run(["rm", "-rf", "out-ours", "out-theirs"], check=True)


@pytest.mark.parametrize("both", MODES, indirect=True)
def test_checkouts(both: Both, request: pytest.FixtureRequest) -> None:
    Path("B/e").chmod(0o2777)
    commit(both, "-b", "main", "A")
    commit(both, "-b", "wide", "B")
    Path("skips").write_text("/d/f\n/x\n")
    for rounds in CHECKOUTS[request.node.callspec.params["both"]]:
        lay_out(both, rounds)


@pytest.mark.parametrize("both", ["bare"], indirect=True)
def test_unions(both: Both) -> None:
    commit(both, "-b", "main", "A")
    commit(both, "-b", "beside", "B")
    make: dict[str, Callable[[Path], object]] = {
        "over/x": lambda path: path.write_text("over\n"),
        "over/d/more": lambda path: path.write_text("more\n"),
        "over/link": lambda path: path.symlink_to("elsewhere"),
        "layer/.wh.x": Path.touch,
        "layer/d/.wh..wh..opq": Path.touch,
        "layer/d/new": lambda path: path.write_text("new\n"),
        "turned/d": lambda path: path.write_text("a file now\n"),
        "other/x/now": lambda path: path.write_text("a directory now\n"),
        "passed/.ostree-wh.gone": Path.touch,
    }
    for name, write in make.items():
        path = Path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        write(path)
    for name in ("over", "layer", "turned", "other", "passed"):
        commit(both, "-b", name, name)
    for rounds in UNIONS:
        lay_out(both, rounds)


@pytest.mark.parametrize("both", ["bare", "bare-user", "bare-user-only"], indirect=True)
def test_links_and_consumption(both: Both) -> None:
    commit(both, "-b", "main", "--tree=dir=A", "--no-xattrs")
    for name, checkout in (("ours", both.ours), ("theirs", both.theirs)):
        mode = ("-U", "-H") if "bare-user" in Path("ours/config").read_text() else ("-H",)
        assert checkout(("checkout", *mode, "main", f"co-{name}"))[0] == 0
        Path(f"co-{name}/new").write_text("new\n")
    words = ("commit", "-b", "next", "--timestamp=@5")
    for more in (
        (),
        ("--link-checkout-speedup",),
        ("-I",),
        ("--link-checkout-speedup", "--owner-uid=3"),
        ("-I", "--consume"),
    ):
        if more == ("-I", "--consume"):
            for name in ("ours", "theirs"):
                Path(f"co-{name}/new").write_text("not committed yet\n")
                os.link(f"co-{name}/new", f"kept-{name}")
        mine = both.ours((*words, *more, "--tree=dir=co-ours"))
        other = both.theirs((*words, *more, "--tree=dir=co-theirs"))
        assert mine[:2] == other[:2], (more, mine, other)
    assert not Path("co-ours").exists()
    assert Path("kept-ours").stat().st_nlink == Path("kept-theirs").stat().st_nlink, (
        "what is consumed becomes the object"
    )
    assert both.theirs(("fsck",), "ours")[0] == 0


def test_many_checkouts_from_a_file(both: Both) -> None:
    commit(both, "-b", "main", "A")
    commit(both, "-b", "other", "B")
    Path("list").write_bytes(b"main\0/d\0other\0/e\0")
    assert both.ours(("checkout", "--from-file=list", "--union", "out-ours"))[0] == 0
    assert both.theirs(("checkout", "--from-file=list", "--union", "out-theirs"))[0] == 0
    assert facts(Path("out-ours")) == facts(Path("out-theirs"))


def contents(name: str) -> set[object]:
    """Returns what is in an archive; of two links to one file it does not matter which is the link."""
    found: set[object] = set()
    with tarfile.open(name) as archive:
        for item in archive:
            content = archive.extractfile(item) if item.isreg() or item.islnk() else None
            data = content.read() if content is not None else item.linkname
            kind = tarfile.REGTYPE if item.islnk() else item.type
            found.add((os.path.normpath(item.name), kind, item.mode, item.uid, item.gid, item.mtime, data))
    return found


def test_export(both: Both) -> None:
    commit(both, "-b", "main", "A")
    for words in ((), ("--no-xattrs",), ("--subpath=/d",), ("--prefix=pre/",), ("--subpath=d", "--prefix=pre/")):
        assert both.ours(("export", *words, "main", "-o", "ours.tar"))[0] == 0
        assert both.theirs(("export", *words, "main", "-o", "theirs.tar"))[0] == 0
        entries = [contents(name) for name in ("ours.tar", "theirs.tar")]
        assert entries[0] == entries[1], words
    status, out, _ = both.ours(("export", "main"))
    assert status == 0
    assert len(out) % 512 == 0
    both.fails("export", "nowhere")


def test_checksums_of_files(both: Both) -> None:
    for path in ("A/x", "A/d/f", "A/link", "A/d"):
        for words in ((), ("--ignore-xattrs",)):
            mine = run(["store", "checksum", *words, path])
            out = both.capture.readouterr()[0]
            done = subprocess.run(["ostree", "checksum", *words, path], capture_output=True, check=True)
            assert (mine, out) == (0, done.stdout), path
