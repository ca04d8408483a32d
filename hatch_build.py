"""What a wheel has besides the package: Wherry's own layers. An editable installation finds them in the checkout.

Links in layers may lead to files of a host that are not here, which hatchling would stumble over.
"""

from __future__ import annotations

from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class LayersHook(BuildHookInterface):
    """Puts ``layers/`` into wheels that are not editable."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Called by hatchling before it builds; see `BuildHookInterface`."""
        if version != "editable":
            build_data["force_include"]["layers"] = "wherry/layers"
