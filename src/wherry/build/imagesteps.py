"""Images of a host as steps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from wherry.build.hosts import Host
    from wherry.build.steps import Plan, Step


def image_steps(host: Host, plan: Plan, names: Sequence[str] | None) -> tuple[list[Step], dict[str, str]]:
    """Returns the steps that make images, and by its name the step of each image that is wanted."""
    del host, plan, names
    return [], {}
