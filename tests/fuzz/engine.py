"""A mutation fuzzer without dependencies: seeds are changed at random, and what behaves in a new way is kept.

A reader may take the bytes, or refuse them with a ``WherryError``. Anything else is found: another exception, more than
``Target.seconds`` for one input, more than ``Target.memory_bytes`` of memory. "A new way" is another result or another
error message, numbers and quotes left out; that leads deep enough without tracing every line.
"""

from __future__ import annotations

import hashlib
import random
import re
import resource
import signal
import time
import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from wherry.core.errors import WherryError

MAX_INPUT_BYTES = 64 * 1024
_MAX_CORPUS = 2000
_INTERESTING = (0, 1, 2, 7, 8, 0x7F, 0x80, 0xFF, 0x100, 0x7FFF, 0x8000, 0xFFFF, 0x10000, 0x7FFFFFFF, 0x80000000,
                0xFFFFFFFF, 0x7FFFFFFFFFFFFFFF, 0xFFFFFFFFFFFFFFFF)  # fmt: skip
_VARIABLE = re.compile(r"'[^']*'|\"[^\"]*\"|\d+|[0-9a-f]{8,}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """One reader.

    Args:
        name: on the command line.
        seeds: well-formed inputs.
        read: takes an input; returns anything small that tells how it was understood.
        seconds: the longest that one input may take.
        memory_bytes: how much memory may grow, over all inputs.
    """

    name: str
    seeds: Callable[[], Iterable[bytes]]
    read: Callable[[bytes], object]
    seconds: float = 5.0
    memory_bytes: int = 256 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One input that a reader cannot stand."""

    target: str
    why: str
    data: bytes

    def save(self, folder: Path) -> Path:
        """Writes the input to a file named by its content."""
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{self.target}-{hashlib.sha256(self.data).hexdigest()[:16]}.bin"
        path.write_bytes(self.data)
        return path


@dataclass(slots=True)
class Outcome:
    """What a run came to."""

    executions: int = 0
    behaviours: int = 0
    finding: Finding | None = None


class _HangError(BaseException):
    """Not an ``Exception``, so that no reader takes it for one of its own."""


def _alarm(number: int, frame: FrameType | None) -> None:
    raise _HangError


def fuzz(target: Target, *, seconds: float, seed: int) -> Outcome:
    """Feeds a reader until the time is up or something is found. To be called in a process's main thread."""
    chance = random.Random(seed)
    corpus = list(target.seeds())
    outcome, seen = Outcome(), set()
    before = signal.signal(signal.SIGALRM, _alarm)
    end = time.monotonic() + seconds
    base = _peak_bytes()
    waiting = list(corpus)
    try:
        while time.monotonic() < end:
            data = waiting.pop() if waiting else mutated(chance, corpus)
            behaviour = _once(target, data, outcome)
            if outcome.finding is None and _peak_bytes() - base > target.memory_bytes:
                outcome.finding = Finding(target=target.name, why="too much memory", data=data)
            if outcome.finding is not None:
                return outcome
            if behaviour not in seen:
                seen.add(behaviour)
                outcome.behaviours = len(seen)
                if len(corpus) < _MAX_CORPUS:
                    corpus.append(data)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    return outcome


def _once(target: Target, data: bytes, outcome: Outcome) -> str:
    outcome.executions += 1
    signal.setitimer(signal.ITIMER_REAL, target.seconds)
    try:
        return f"ok {target.read(data)!r}"[:200]
    except WherryError as error:
        return f"{type(error).__name__} {_VARIABLE.sub('', error.what)}"
    except _HangError:
        outcome.finding = Finding(target=target.name, why=f"more than {target.seconds} s", data=data)
    except Exception:
        outcome.finding = Finding(target=target.name, why=traceback.format_exc(), data=data)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    return ""


def _peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def mutated(chance: random.Random, corpus: list[bytes]) -> bytes:
    """Returns one of the inputs, changed in a few places."""
    data = bytearray(chance.choice(corpus))
    for _ in range(1 << chance.randrange(4)):
        _mutate(chance, data, corpus)
    return bytes(data[:MAX_INPUT_BYTES])


def _mutate(chance: random.Random, data: bytearray, corpus: list[bytes]) -> None:
    at = chance.randrange(len(data) + 1)
    if not data:
        data += chance.randbytes(chance.randrange(1, 16))
        return
    place = min(at, len(data) - 1)
    match chance.randrange(9):
        case 0:
            data[place] ^= 1 << chance.randrange(8)
        case 1:
            data[place] = chance.randrange(256)
        case 2:
            del data[at : at + chance.randrange(1, 1 + max(1, len(data) // 4))]
        case 3:
            data[at:at] = chance.randbytes(chance.randrange(1, 9))
        case 4:  # a number that is on some edge, in some width, at the end more often: framing offsets are there
            width = chance.choice((1, 2, 4, 8))
            number = (chance.choice((*_INTERESTING, len(data), len(data) - 1)) & (1 << 8 * width) - 1).to_bytes(
                width, chance.choice(("little", "big"))
            )
            place = len(data) - width if chance.random() < 0.3 else place
            data[max(0, place) : max(0, place) + width] = number
        case 5:
            other = chance.choice(corpus)
            start = chance.randrange(len(other) + 1)
            data[at:at] = other[start : start + chance.randrange(1, 65)]
        case 6:
            del data[at:]
        case 7:
            length = chance.randrange(1, 33)
            data[at:at] = data[at : at + length] * chance.choice((1, 2, 3, 40))
        case _:
            data[place] = (data[place] + chance.choice((-1, 1))) & 0xFF
