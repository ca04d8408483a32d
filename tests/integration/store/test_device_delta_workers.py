"""Making a device delta that is killed: its worker processes go with it."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

from wherry.store import Mode, Repository


def children(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def test_workers_end_with_the_maker(tmp_path: Path) -> None:
    repo = Repository.init(tmp_path / "repo", Mode.ARCHIVE)
    tree = tmp_path / "tree"
    tree.mkdir()
    words = [random.Random(number).randbytes(40) for number in range(3000)]
    for number, ref in enumerate(("one", "two")):
        shuffled = random.Random(number)
        for file in range(8):
            (tree / f"f{file}").write_bytes(b"".join(shuffled.choices(words, k=50_000)))
        repo.commit(tree, ref=ref)
    process = subprocess.Popen(
        [sys.executable, "-m", "wherry", "store", "delta", "make", f"--repo={repo.path}", "--from=one", "--to=two",
         "--threads=2", "-o", str(tmp_path / "delta")],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    end = time.monotonic() + 60
    while len(workers := children(process.pid)) < 2:
        assert process.poll() is None, "it ended before workers were seen"
        assert time.monotonic() < end, "no workers were seen"
        time.sleep(0.01)
    time.sleep(0.3)  # each has begun its work
    process.send_signal(signal.SIGKILL)
    process.wait()
    while not all(map(gone, workers)):
        assert time.monotonic() < end, "workers go on"
        time.sleep(0.05)
    assert not (tmp_path / "delta").exists()
