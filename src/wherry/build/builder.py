"""What a builder is: it turns what layers contribute into a plan of steps.

Builders are ``debian/`` (packages of the distribution), ``source/`` (kernel and busybox, compiled) and ``buildroot/``.
None of them runs anything while it plans; all work is in the steps (`steps.py`), which `executing.py` takes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from wherry.build.boards import Board
    from wherry.build.contributions import Contributions
    from wherry.build.steps import Plan
    from wherry.spec.architecture import Architecture


class BuilderName(StrEnum):
    """The builders."""

    DEBIAN = "debian"
    SOURCE = "source"
    BUILDROOT = "buildroot"


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    """What a builder plans from."""

    name: str
    """The workspace's: the host's name in the images."""
    workspace: Path
    """Its folder; for lock files, which people keep in git. Never a part of a key."""
    contributions: Contributions
    """Of the whole chain: layers, then overrides."""
    board: Board
    architecture: Architecture
    options: Mapping[str, Any] = field(default_factory=dict)
    """The builder's own section of ``host.yaml``."""
    epoch: int = 0
    """Seconds since 1970 that all times in images have (SOURCE_DATE_EPOCH)."""
    offline: bool = False
    """Whether nothing may be fetched."""


class Builder(Protocol):
    """A builder."""

    name: BuilderName

    def plan(self, inputs: Inputs) -> Plan:
        """Returns the steps that make the host.

        Raises:
            InvalidInput: layers or options do not fit this builder; says which.
            Unsupported: it has no way to build for this architecture.
        """
