"""What a probe of ``wherry doctor`` found."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What one probe found."""

    group: str
    """``kernel``, ``permissions``, ``without root``, ``machine`` or ``tools``."""
    name: str
    ok: bool
    seen: str
    """What was there, or what was missing."""
    cost: str = ""
    """What does not work without it."""
    remedy: str = ""
    """How to get it."""
    needed: bool = True
    """False: something is slower or missing, but the main job works."""
