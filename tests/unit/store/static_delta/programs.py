"""Two files that are like two versions of a program."""

from __future__ import annotations

import random

_RANDOM = random.Random(1)
PROGRAM = _RANDOM.randbytes(100_000)
CHANGED = b"head" + PROGRAM[:40_000] + b"changed" + PROGRAM[40_500:] + b"tail"
