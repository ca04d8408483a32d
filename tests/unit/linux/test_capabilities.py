"""The list of capabilities is the kernel's."""

from __future__ import annotations

from pathlib import Path

from wherry.linux.capabilities import NAMES
from wherry.revision.values import CAPABILITIES


def test_every_capability_of_this_kernel_has_a_name() -> None:
    assert int(Path("/proc/sys/kernel/cap_last_cap").read_text()) < len(NAMES) == len(set(NAMES))


def test_compose_knows_them_without_the_prefix() -> None:
    assert {"ALL", "CHOWN", "CHECKPOINT_RESTORE"} <= CAPABILITIES
    assert len(CAPABILITIES) == len(NAMES) + 1
