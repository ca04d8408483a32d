"""Device deltas: killed anywhere, and in little memory whatever the size of a file."""

from __future__ import annotations

import base64
import hashlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from tests.unit.store.conftest import REGULAR, make_repo
from tests.unit.store.delta.pairs import Pair, legacy_lz4, new_files, old_files, program, whole

from wherry.core.digest import Checksum
from wherry.store.delta import encoders
from wherry.store.delta.format import Encoder, Header, serialize_head
from wherry.store.delta.orders import OLD, ObjectOrder, SourceId
from wherry.store.delta.payload import find, recipe_of, view_size
from wherry.store.delta.recompress import recognise
from wherry.store.delta.sources import old_objects
from wherry.store.delta.writer import PartWriter, Piece
from wherry.store.format import objects
from wherry.store.format.objects import Mode, ObjectType
from wherry.store.repository import Repository
from wherry.store.tree.commit import commit_tree
from wherry.store.tree.mutable import TreeBuilder

MAX_MEMORY_BYTES = 64 * 1024 * 1024
POINTS = ["piece", "object", "partial", "part", "checkpoint", "progress", "done"]
_MEASURED = """
import sys
from wherry.cli.main import main
try:
    main()
except SystemExit as end:
    if end.code:
        raise
for line in open("/proc/self/status"):
    if line.startswith("VmHWM"):
        print("peak", int(line.split()[1]) * 1024)
"""


def wherry(*args: str, trace: str = "", measured: bool = False) -> subprocess.CompletedProcess[bytes]:
    env = {**os.environ, "WHERRY_TRACE": trace, "WHERRY_ROOT": "/nonexistent"}
    program = ["-c", _MEASURED] if measured else ["-m", "wherry"]
    return subprocess.run([sys.executable, *program, "store", *args], env=env, capture_output=True, check=False)


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    found = Pair(tmp_path_factory.mktemp("pair"), old_files(), new_files())
    found.make()
    return found


def test_command(pair: Pair) -> None:
    made = wherry("delta", "make", f"--repo={pair.repo.path}", "--from=old", "--to=new", "-o", f"{pair.folder}/again")
    assert made.returncode == 0, made.stderr
    assert (pair.folder / "again").read_bytes() == (pair.folder / "delta").read_bytes()
    assert b"parts are whole" in wherry("delta", "verify", f"{pair.folder}/again").stdout
    shown = wherry("delta", "show", f"{pair.folder}/again").stdout.decode()
    assert f"to: {pair.new}" in shown
    assert "encoders: lz4 9" in shown
    repo = pair.device()
    applied = wherry("delta", "apply", f"--repo={repo.path}", "--ref=os", f"{pair.folder}/again")
    assert applied.stdout.decode() == f"{pair.new}\n", applied.stderr
    assert Repository.open(repo.path).resolve("os") == pair.new
    assert wherry("delta", "apply", f"--repo={repo.path}", "--key=AAAA", f"{pair.folder}/again").returncode == 1


def test_commits_must_be_signed(pair: Pair, tmp_path: Path) -> None:
    """``--sign-verify`` asks for signatures of the commits, ``core.sign-verify-deltas`` for one of the delta."""
    key = Ed25519PrivateKey.generate()
    own, other = (
        base64.b64encode(item.public_key().public_bytes_raw()) for item in (key, Ed25519PrivateKey.generate())
    )
    secret = tmp_path / "secret"
    secret.write_bytes(base64.b64encode(key.private_bytes_raw() + base64.b64decode(own)) + b"\n")
    signed = wherry("sign", f"--repo={pair.repo.path}", f"--keys-file={secret}", "new")
    assert signed.returncode == 0, signed.stderr
    file = tmp_path / "signed"
    made = wherry("delta", "make", f"--repo={pair.repo.path}", "--from=old", "--to=new", "-o", str(file))
    assert made.returncode == 0, made.stderr
    repo = pair.device()
    args = ("delta", "apply", f"--repo={repo.path}", str(file))
    refused = wherry(*args, "--sign-verify", f"--commit-key={other.decode()}")
    assert refused.returncode == 1
    assert not repo.has(ObjectType.COMMIT, pair.new)
    repo.config.set("core", "sign-verify-deltas", "true")
    repo.save_config()
    assert b"not signed" in wherry(*args).stderr
    repo.config.set("core", "sign-verify-deltas", "false")
    repo.save_config()
    # The commits' own keys are not asked of a delta that nobody signed.
    applied = wherry(*args, "--sign-verify", f"--commit-key={own.decode()}")
    assert applied.returncode == 0, applied.stderr


@pytest.mark.parametrize("point", POINTS)
def test_killed(pair: Pair, point: str) -> None:
    """Killed at the point, the repository is sound; the next try ends well."""
    repo = pair.device()
    args = ("delta", "apply", f"--repo={repo.path}", f"{pair.folder}/delta")
    killed = wherry(*args, trace=f"store.device-delta.{point}=kill")
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert (point == "done") == whole(repo, pair.new) or repo.is_partial(pair.new)
    done = wherry(*args)
    assert done.returncode == 0, done.stderr
    assert whole(repo, pair.new)


def test_every_point_is_in_the_list(pair: Pair) -> None:
    log = pair.folder / "log"
    repo = pair.device()
    wherry("delta", "apply", f"--repo={repo.path}", f"{pair.folder}/delta", trace=f"log:{log}")
    reached = {name for name in log.read_text().split() if name.startswith("store.device-delta.")}
    assert reached == {f"store.device-delta.{point}" for point in POINTS}


class Big:
    """Two commits with two large files, and a delta between them written by hand: to match them would take minutes."""

    SEGMENT = 4 << 20
    COUNT = 80

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.repo = make_repo(folder / "origin", Mode.BARE_USER)
        self.block = os.urandom(self.SEGMENT)
        self.kernels = [legacy_lz4(program(seed, 1 << 20) * 17) for seed in (1, 2)]
        self.commits = []
        for generation in (0, 1):
            with self.repo.transaction():
                tree = TreeBuilder(self.repo)
                with open(folder / "content", "wb") as file:
                    file.writelines(self.content(generation))
                with open(folder / "content", "rb") as file:
                    tree.add_file("big", REGULAR, file)
                tree.add_file("kernel", REGULAR, self.kernels[generation])
                self.commits.append(commit_tree(self.repo, *tree.write(), timestamp_s=generation, subject="big"))
        (folder / "content").unlink()

    def content(self, generation: int) -> Iterator[bytes]:
        changed = bytearray(self.block)
        if generation:
            for at in range(0, len(changed), 1 << 16):
                changed[at] = (changed[at] + 1) % 256
        for number in range(self.COUNT):
            yield bytes(changed[number:] + changed[:number])

    def write(self, path: Path) -> None:
        old, new = self.commits
        names = old_objects(self.repo, [old])
        numbers = {name: number for number, name in enumerate(names)}
        trees = [self.repo.load_dirtree(self.repo.load_commit(commit).tree) for commit in (old, new)]
        before, after = dict(trees[0].files), dict(trees[1].files)
        with open(path.with_suffix(".parts"), "wb") as file, ThreadPoolExecutor(2) as pool:
            writer = PartWriter(file, pool, strong=False)
            source = SourceId(OLD, numbers[(ObjectType.FILE, before["big"])])
            size = self.SEGMENT * self.COUNT
            writer.begin(ObjectOrder(kind=ObjectType.FILE, checksum=after["big"], done=0, size=size, header=REGULAR))
            for number in range(self.COUNT):
                difference = bytearray(self.SEGMENT)
                for at in range(0, self.SEGMENT, 1 << 16):
                    difference[(at - number) % self.SEGMENT] = 1
                ranges = [(source, number * self.SEGMENT, self.SEGMENT)]
                writer.add(Piece(ranges, [(self.SEGMENT, 0, 0)], bytes(difference), b"", self.SEGMENT))
            writer.end()
            needed = self._kernel(writer, numbers, before["kernel"], after["kernel"])
            for kind, checksum in self._metadata(new):
                data = self.repo.metadata_bytes(kind, checksum)
                writer.begin(ObjectOrder(kind=kind, checksum=checksum, done=0, size=len(data)))
                writer.add(Piece([], [(0, len(data), 0)], b"", data, len(data)))
                writer.end()
            writer.finish()
        header = Header(
            from_commits=(old,),
            to_commits=(new,),
            sources=hashlib.sha256(names.data).digest(),
            objects=writer.made,
            disk_bytes=size,
            scratch_bytes=size,
            encoders=needed,
            parts=tuple(writer.parts),
        )
        path.write_bytes(serialize_head(header) + path.with_suffix(".parts").read_bytes())

    def _kernel(
        self, writer: PartWriter, numbers: dict[tuple[ObjectType, Checksum], int], old: Checksum, new: Checksum
    ) -> tuple[Encoder, ...]:
        recipes = [recipe_of(find(memoryview(data)), len(data)) for data in self.kernels]
        data = memoryview(self.kernels[1])
        first = find(data)[0]
        plain = program(2, 1 << 20)
        known = recognise(data[first.begin : first.end], first, lambda: iter([plain] * 8), encoders.NAMES)
        assert known is not None
        source = SourceId(OLD, numbers[(ObjectType.FILE, old)], recipes[0])
        size = view_size(recipes[1])
        view = self.kernels[1][:8] + (plain * 17)[: 8 << 20] + self.kernels[1][first.end : first.end + 4]
        writer.begin(
            ObjectOrder(kind=ObjectType.FILE, checksum=new, done=0, size=size, header=REGULAR, recipe=recipes[1])
        )
        writer.add(Piece([(source, 0, 8)], [(0, len(view), 0)], b"", view, len(view)))
        rest = (plain * 17)[8 << 20 : 16 << 20] + self.kernels[1][self._last(first.end) : self._last(first.end) + 4]
        rest += plain
        writer.add(Piece([(source, 1 << 20, 1 << 20)], [(0, len(rest), 0)], b"", rest, len(rest)))
        writer.end()
        return (Encoder(name="lz4", numbers=(9,), probe=encoders.probe("lz4", (9,))),)

    def _last(self, at: int) -> int:
        return at + 4 + int.from_bytes(self.kernels[1][at : at + 4], "little")

    def _metadata(self, commit: Checksum) -> list[tuple[ObjectType, Checksum]]:
        return [(ObjectType.DIRTREE, self.repo.load_commit(commit).tree), (ObjectType.COMMIT, commit)]


@pytest.fixture(scope="module")
def big(tmp_path_factory: pytest.TempPathFactory) -> Big:
    found = Big(tmp_path_factory.mktemp("big"))
    found.write(found.folder / "delta")
    return found


@pytest.mark.parametrize("mode", [Mode.BARE_USER, pytest.param(Mode.ARCHIVE, marks=pytest.mark.deep)])
def test_memory(tmp_path: Path, big: Big, mode: Mode) -> None:
    """A file of 320 MiB, and one with LZ4's largest blocks, in less than 64 MiB."""
    from wherry.store.pull.pull import pull_local

    device = make_repo(tmp_path / "device", mode)
    pull_local(device, big.repo, [big.commits[0]])
    done = wherry("delta", "apply", f"--repo={device.path}", f"{big.folder}/delta", measured=True)
    assert done.returncode == 0, done.stderr
    commit, peak = done.stdout.decode().split("peak")
    assert commit.strip() == big.commits[1]
    assert int(peak) < MAX_MEMORY_BYTES
    tree = device.load_dirtree(device.load_commit(big.commits[1]).tree)
    for _, checksum in tree.files:
        header, content = device.load_file(checksum)
        assert content is not None
        with content:
            assert objects.file_checksum(header, content) == checksum
