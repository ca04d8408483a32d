"""Platforms as images name them, and what this machine runs by itself; what it does not is `foreign`'s."""

from __future__ import annotations

import os

from wherry.core.errors import InvalidInput, Unsupported

_NATIVE = {
    "x86_64": ("amd64", "386"),
    "aarch64": ("arm64", "arm"),
    "armv7l": ("arm",),
    "armv6l": ("arm",),
    "i686": ("386",),
    "riscv64": ("riscv64",),
    "ppc64le": ("ppc64le",),
    "s390x": ("s390x",),
    "loongarch64": ("loong64",),
}
"""What a kernel runs by itself, by its machine, its own first."""


def is_native(architecture: str) -> bool:
    """Tells whether this machine runs such programs by itself; one that is not said is taken to be."""
    own = _NATIVE.get(os.uname().machine, ())
    return not architecture or not own or architecture in own


def parts_of(platform: str) -> tuple[str, str, str]:
    """Returns system, architecture and variant of ``linux/arm/v7``, ``linux/arm64``, ``arm64`` or ``linux``."""
    words = platform.split("/")
    if words == ["linux"]:
        words.append("")
    elif len(words) == 1:
        words.insert(0, "linux" if words[0] else "")
    alias = {"aarch64": "arm64", "x86_64": "amd64", "armhf": "arm", "armel": "arm", "i386": "386"}
    return words[0], alias.get(words[1], words[1]), words[2] if len(words) > 2 else ""


def fits(platform: str, wanted: str) -> bool:
    """Tells whether an image's platform, "" when it does not say, is the one that was asked for."""
    system, architecture, variant = parts_of(platform)
    asked = parts_of(wanted)
    return not platform or (asked[:2] == (system, architecture) and asked[2] in ("", variant or asked[2]))


def check(platform: str, wanted: str, *, image: str, runs_here: bool = True) -> None:
    """Refuses an image that is not what was asked for, or that cannot run here.

    Args:
        platform: the image's, as ``linux/arm/v7``; "" when it does not say.
        wanted: of ``--platform``; "" takes any.
        image: its name, for people.
        runs_here: whether this machine's kernel is to run its programs.

    Raises:
        InvalidInput: it is for something else than was asked for.
        Unsupported: nothing runs it here.
    """
    system, architecture, _ = parts_of(platform)
    if wanted and not fits(platform, wanted):
        raise InvalidInput(
            f"the image is for {platform}, not {wanted}",
            where=image,
            hint=f"import the other one: `wherry image import --platform {wanted}`",
        )
    if system not in ("", "linux"):
        raise Unsupported(f"the image is for {system}, not for Linux", where=image)
    if runs_here and not is_native(architecture):
        from wherry.engine.foreign import interpreters

        interpreters(architecture)
