"""The configuration of Buildroot that layers come to: one defconfig, in which each symbol stands once.

First what holds where layers say nothing, then the layers' own fragments, merged, then what Wherry makes of the rest
of the layers: folders of patches and overlays, fragments for other tools, tables of users, scripts, flags. The latter
takes the place of what a layer says of the same symbol, as in SkiffOS, and a note says whose that was; where layers
have nothing of a kind, their own word stays.

Source: the Buildroot manual, "Customization"; SkiffOS, configs-base/post/buildroot/config (August 2026), by what it
does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from wherry.build.fragments import Merged, Setting, merge
from wherry.core.errors import InvalidInput, Unsupported

if TYPE_CHECKING:
    from pathlib import Path

    from wherry.build.buildroot.options import Options
    from wherry.build.buildroot.places import Places
    from wherry.build.contributions import Contributions, Part
    from wherry.build.layers import Layer
    from wherry.spec.architecture import Architecture

KIND = "buildroot"
OWN = "wherry"
"""In the place of a layer's name: the settings that no layer asks for."""
TOOLS = {
    "busybox": "BR2_PACKAGE_BUSYBOX_CONFIG_FRAGMENT_FILES",
    "kernel": "BR2_LINUX_KERNEL_CONFIG_FRAGMENT_FILES",
    "uboot": "BR2_TARGET_UBOOT_CONFIG_FRAGMENT_FILES",
}
"""Kinds of fragments for other tools -> the symbol that names their files."""
PATCHES = {
    "buildroot_patches": "BR2_GLOBAL_PATCH_DIR",
    "kernel_patches": "BR2_LINUX_KERNEL_PATCH",
    "uboot_patches": "BR2_TARGET_UBOOT_PATCH",
}
SCRIPTS = {
    "before": ("BR2_ROOTFS_POST_BUILD_SCRIPT", "pre_build.sh"),
    "after": ("BR2_ROOTFS_POST_IMAGE_SCRIPT", "post_build.sh"),
}
"""Words of `contributions.HOOKS` -> Buildroot's symbol for the script, and its file."""
OPTIMIZATION = "BR2_TARGET_OPTIMIZATION"
_ARCHITECTURES: Mapping[str, Mapping[str, str]] = {
    "amd64": {"BR2_x86_64": "y"},
    "i386": {"BR2_i386": "y"},
    "arm64": {"BR2_aarch64": "y"},
    "armhf": {"BR2_arm": "y", "BR2_cortex_a7": "y", "BR2_ARM_EABIHF": "y"},
    "armel": {"BR2_arm": "y"},
    "riscv64": {"BR2_riscv": "y", "BR2_RISCV_64": "y"},
}
_CHOICE = frozenset(
    f"BR2_{name}"
    for name in (
        *("aarch64", "aarch64_be", "arcle", "arm", "armeb", "i386", "loongarch64", "m68k", "microblazebe"),
        *("microblazeel", "mips", "mips64", "mips64el", "mipsel", "or1k", "powerpc", "powerpc64", "powerpc64le"),
        *("riscv", "s390x", "sh", "sparc", "sparc64", "x86_64", "xtensa"),
    )
)
"""The choice of an architecture, arch/Config.in."""
_NAMES = {
    "amd64": ("x86_64",),
    "i386": ("i386", "i486", "i586", "i686"),
    "arm64": ("aarch64",),
    "armhf": ("arm",),
    "armel": ("arm",),
    "riscv64": ("riscv64",),
}
"""What BR2_ARCH says of each."""
_NO_TEXT = frozenset('"\\\n')


@dataclass(frozen=True, slots=True, kw_only=True)
class Defconfig:
    """A configuration of Buildroot, as it is asked for."""

    settings: tuple[Setting, ...] = ()
    """Each symbol once, in their order."""
    asked: Merged = field(default_factory=Merged)
    """What the layers asked for, without what was taken from them."""
    tools: Mapping[str, Merged] = field(default_factory=dict)
    """The fragments for other tools, by their kind; only those that there are."""
    notes: tuple[str, ...] = ()
    """What a person should know: whose word did not count."""

    def text(self) -> str:
        """Returns it for ``make defconfig``."""
        lines: list[str] = []
        source = ""
        for setting in self.settings:
            current = f"{setting.layer}: {setting.path}"
            if current != source:
                lines += [*([""] if lines else []), f"# {current}"]
                source = current
            lines.append(setting.text())
        return "".join(f"{line}\n" for line in lines)


def make(
    chain: Sequence[Layer],
    contributions: Contributions,
    architecture: Architecture,
    places: Places,
    options: Options,
) -> Defconfig:
    """Returns the configuration that a chain comes to.

    Args:
        chain: the layers in their order.
        contributions: what they contribute.
        architecture: of the host.
        places: where things are when Buildroot runs.
        options: the user's.

    Raises:
        InvalidInput: a layer's flags cannot be written into a configuration.
        Unsupported: Wherry knows not what Buildroot calls the architecture.
    """
    words = {"REPLACEME_SKIFF_VERSION_COMMIT": version_of(options), "REPLACEME_SKIFF_VERSION": version_of(options)}
    said = _said(merge(chain, KIND, root_of=lambda layer: str(places.layer(layer))), words)
    tools = {kind: merge(chain, kind, root_of=lambda layer: str(places.layer(layer))) for kind in TOOLS}
    tools = {kind: merged for kind, merged in tools.items() if merged.history}
    made = [*_folders(contributions, places), *_tools(tools, places), *_scripts(contributions, places)]
    made += _flags(contributions)
    made += _for_wherry(options)
    ours = {setting.symbol: setting for setting in made}
    defaults = [setting for setting in _defaults(said, architecture) if setting.symbol not in said.history]
    notes = [
        f"{every[-1].where}: {every[-1].text()} gives way to {ours[symbol].text()}, made of {ours[symbol].path}"
        for symbol, every in said.history.items()
        if symbol in ours and every[-1].value != ours[symbol].value
    ]
    asked = Merged(
        history={symbol: every for symbol, every in said.history.items() if symbol not in ours},
        problems=said.problems,
    )
    notes += [f"{where}: not a line of a fragment, passed over: {found.text[:60]}" for where, found in said.problems]
    return Defconfig(settings=(*defaults, *asked.settings(), *made), asked=asked, tools=tools, notes=tuple(notes))


def version_of(options: Options) -> str:
    """Returns what the host calls its version."""
    return options.version or "unknown"


def check_architecture(architecture: Architecture, found: str) -> None:
    """Refuses a configuration for another architecture.

    Args:
        architecture: the one that is wanted.
        found: BR2_ARCH of the whole configuration.

    Raises:
        InvalidInput: says both.
    """
    if found not in _NAMES.get(architecture.name, ()):
        raise InvalidInput(
            f"the layers configure Buildroot for {found or 'nothing'}, and the host is to be {architecture.name}",
            hint="take the board's layer for that architecture, or give the host another one",
        )


def _said(merged: Merged, words: Mapping[str, str]) -> Merged:
    """Returns fragments with SkiffOS' words replaced, which only its own base has."""
    history: dict[str, Sequence[Setting]] = {}
    for symbol, every in merged.history.items():
        settings = []
        for setting in every:
            value = setting.value
            for word, text in words.items():
                value = value and value.replace(word, text)
            if value is None or "REPLACEME_" not in value:  # SkiffOS' post layer, whose work is done here
                settings.append(replace(setting, value=value))
        if settings:
            history[symbol] = settings
    return Merged(history=history, problems=merged.problems)


def _own(symbol: str, value: str | None, why: str) -> Setting:
    return Setting(symbol=symbol, value=value, layer=OWN, path=why, line=0)


def _quoted(text: str, where: object) -> str:
    if any(char in _NO_TEXT for char in text):
        raise InvalidInput(f'a text with " \\ or a line break cannot be written there: {text[:80]!r}', where=where)
    return f'"{text}"'


def _defaults(said: Merged, architecture: Architecture) -> list[Setting]:
    own = _ARCHITECTURES.get(architecture.name)
    if own is None:
        raise Unsupported(
            f"no way to build with Buildroot for {architecture.name}", hint=f"there are {', '.join(_ARCHITECTURES)}"
        )
    chosen = any(every[-1].value == "y" for symbol, every in said.history.items() if symbol in _CHOICE)
    found = [] if chosen else [_own(symbol, value, "defaults") for symbol, value in own.items()]
    return [*found, _own("BR2_REPRODUCIBLE", "y", "defaults")]


def _folders(contributions: Contributions, places: Places) -> list[Setting]:
    kinds: dict[str, tuple[str, Sequence[Part]]] = {
        symbol: (kind, contributions.patches.get(kind, ())) for kind, symbol in PATCHES.items()
    }
    kinds["BR2_ROOTFS_OVERLAY"] = ("root_overlay", contributions.overlays)
    return [
        _own(symbol, _quoted(" ".join(str(_folder(places, part)) for part in parts), kind), kind)
        for symbol, (kind, parts) in kinds.items()
        if parts
    ]


def _folder(places: Places, part: Part) -> Path:
    return places.named(part.layer) / part.path.name


def _tools(tools: Mapping[str, Merged], places: Places) -> list[Setting]:
    return [_own(TOOLS[kind], _quoted(str(places.fragments / f"{kind}.config"), kind), kind) for kind in tools]


def _scripts(contributions: Contributions, places: Places) -> list[Setting]:
    found = [
        _own(symbol, _quoted(str(places.external / name), "hooks"), f"hooks/{name}")
        for word, (symbol, name) in SCRIPTS.items()
        if contributions.hooks.get(word)
    ]
    if contributions.users:
        found.append(_own("BR2_ROOTFS_USERS_TABLES", _quoted(str(places.external / "users"), "users"), "users"))
    return found


def _flags(contributions: Contributions) -> list[Setting]:
    if not contributions.cflags:
        return []
    layers = ", ".join(dict.fromkeys(line.layer for line in contributions.cflags))
    text = contributions.joined_cflags
    return [_own(OPTIMIZATION, _quoted(text, f"cflags of {layers}"), f"cflags of {layers}")]


def _for_wherry(options: Options) -> list[Setting]:
    # SkiffOS leaves the tar out; the host's root is taken from it here
    found = [_own("BR2_TARGET_ROOTFS_TAR", "y", "images"), _own("BR2_TARGET_ROOTFS_TAR_NONE", "y", "images")]
    if options.initramfs:
        found.append(_own("BR2_TARGET_ROOTFS_CPIO", "y", "images"))
    if options.ccache is not None:
        found.append(_own("BR2_CCACHE", "y" if options.ccache else None, "options"))
    if options.check_hashes:
        found.append(_own("BR2_DOWNLOAD_FORCE_CHECK_HASHES", "y", "options"))
    return found
