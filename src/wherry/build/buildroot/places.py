"""Where a build with Buildroot has its things, as the programs in the steps' sandbox see them: the same everywhere.

::

    /build/in/buildroot         the tree of Buildroot, a copy
    /build/in/layers/           what `staging.py` made of the layers
      chain/NS/NAME/            each layer; the project's own overrides are in chain/.project
      external/                 an external tree of Buildroot's: defconfig, fragments, users, scripts
      dropins/                  JSON drop-ins, merged
    /build/in/config/config     the whole configuration
    /build/kept/output          Buildroot's output folder; ``output`` in it is itself, as SkiffOS has it
    /build/kept/fragments       the fragments, with times that change only with what they say
    /build/downloads/buildroot  what was downloaded, unless the user names another folder
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from wherry.build.hookenv import HookPlaces

if TYPE_CHECKING:
    from wherry.build.layers import Layer

BUILDROOT, LAYERS, CONFIG, FETCH, BUILD, ROOT, BOOT = "buildroot", "layers", "config", "fetch", "build", "root", "boot"
"""The steps."""
OUTPUT = "output"
FRAGMENTS = "fragments"
DEFCONFIG = "configs/wherry_defconfig"


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """Paths in the sandbox."""

    top: Path = Path("/build")

    @property
    def tree(self) -> Path:
        """The tree of Buildroot."""
        return self.top / "in" / BUILDROOT

    @property
    def layers(self) -> Path:
        """What was made of the layers."""
        return self.top / "in" / LAYERS

    @property
    def external(self) -> Path:
        """The external tree that was generated."""
        return self.layers / "external"

    @property
    def output(self) -> Path:
        """Buildroot's output folder."""
        return self.top / "kept" / OUTPUT

    @property
    def fragments(self) -> Path:
        """The folder of fragments for the kernel, busybox and U-Boot."""
        return self.top / "kept" / FRAGMENTS

    @property
    def downloads(self) -> Path:
        """Where downloads are, unless the user says where."""
        return self.top / "downloads" / BUILDROOT

    def layer(self, layer: Layer) -> Path:
        """The folder of a layer."""
        return self.named(layer.name)

    def named(self, name: str) -> Path:
        """The folder of the layer of that name."""
        return self.layers / staged(name)

    def for_hooks(self) -> HookPlaces:
        """The places that layers' scripts are told."""
        return HookPlaces(
            output=self.output,
            generated=self.external,
            dropins=self.layers / "dropins",
            tree=self.layers,
            layer=self.layer,
        )


def staged(name: str) -> Path:
    """Returns where a layer is below the folder that is made of the layers.

    A name of one word is the project's own, ``overrides``; it is kept apart, as ``overrides/NAME`` is another layer.
    """
    return Path("chain", *(name.split("/") if "/" in name else (".project", name)))
