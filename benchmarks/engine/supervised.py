"""Starts inside the running supervisor, asked for by a client that has loaded its modules long ago."""

from __future__ import annotations

import statistics
import time

from benchmarks.engine.peers import Peers
from benchmarks.engine.timing import Row

from wherry.core.proc import run
from wherry.engine.engine import Engine
from wherry.engine.imagestore import ImageStore
from wherry.engine.spec import ContainerSpec

_WARMUP = 3


def starts(peers: Peers, rounds: int) -> list[Row]:
    """Times ``true`` in containers that are there: from the request until the command runs, and until it has ended."""
    root, run_root = peers.scratch / "wherry", peers.run_root
    engine = Engine(root, run_root, ImageStore(root / "store"))
    keep = [
        *peers.wherry,
        "run",
        "-d",
        "--name",
        "keeps-the-supervisor",
        "--network",
        "none",
        "bench:1",
        "sleep",
        "10000",
    ]
    run(keep)
    began: list[float] = []
    ended: list[float] = []
    try:
        for number in range(-_WARMUP, rounds):
            spec = ContainerSpec(image="bench:1", name=f"start-{number + _WARMUP}", network="none", args=("true",))
            container = engine.create(spec).id
            before = time.perf_counter()
            engine.start(container)
            between = time.perf_counter()
            engine.wait(container)
            after = time.perf_counter()
            engine.remove(container)
            if number >= 0:
                began.append((between - before) * 1000)
                ended.append((after - before) * 1000)
    finally:
        engine.remove("keeps-the-supervisor", force=True)
    return [
        Row(name, statistics.median(times), min(times), 0, rounds)
        for name, times in (("wherry: until the command runs", began), ("wherry: until it has ended", ended))
    ]
