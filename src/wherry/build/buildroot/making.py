"""``make`` in a tree of Buildroot: its arguments and environment, how far it is, and what a failure means."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from wherry.build.buildroot import scripts
from wherry.build.buildroot.places import Places
from wherry.build.place import Failed
from wherry.core.errors import ToolError

if TYPE_CHECKING:
    from wherry.build.buildroot.options import Options
    from wherry.build.fragments import Merged, Setting
    from wherry.build.steps import Place

NOWHERE = "file:///nonexistent"
"""Where Buildroot looks for sources when it may fetch none."""
_ANSI = re.compile(r"\x1b\[[0-9;]*m|\x1b\(B")
_STEP = re.compile(r">>> (?P<package>\S*) (?P<version>\S*) (?P<action>\S.*)")
_FAILED = re.compile(r"make(?:\[\d+\])?: \*\*\* \[.*?/build/(?P<folder>[^/\]]+)/\.stamp_")
_PHASES = {"linux": "BR2_LINUX_KERNEL", "uboot": "BR2_TARGET_UBOOT", "toolchain": "BR2_TOOLCHAIN_BUILDROOT"}
_NAME = re.compile(r"[a-z0-9][a-z0-9+._-]*")
_MISSING = re.compile(r"You must install '([^']{1,100})' on your build machine")
_PACKAGES = "packages"


@dataclass(frozen=True, slots=True, kw_only=True)
class Make:
    """How Buildroot is called for one host."""

    places: Places
    options: Options
    externals: Sequence[Path] = ()
    """External trees, as the sandbox sees them."""
    offline: bool = False

    def args(self, *targets: str, output: Path | None = None) -> list[str]:
        """Returns the arguments that make targets."""
        words = ["make", "-C", str(self.places.tree), f"O={output or self.places.output}"]
        words.append(f"BR2_EXTERNAL={':'.join(str(path) for path in self.externals)}")
        if self.options.jobs:
            words.append(f"BR2_JLEVEL={self.options.jobs}")
        if self.offline:
            words += [f"BR2_PRIMARY_SITE={NOWHERE}", "BR2_PRIMARY_SITE_ONLY=y"]
        return [*words, *targets]

    def environment(self) -> dict[str, str]:
        """Returns the environment of all calls."""
        options = self.options
        cache = options.ccache_folder or self.places.top / "kept" / "ccache"
        return {
            "BR2_DL_DIR": str(options.downloads or self.places.downloads),
            "BR2_CCACHE_DIR": str(cache),
            # what runs in the sandbox is root there; some configure scripts refuse that otherwise
            "FORCE_UNSAFE_CONFIGURE": "1",
            "LC_ALL": "C",
            "TERM": "dumb",
            "USER": "root",
        }

    def writable(self, *, fetches: bool = False) -> list[Path]:
        """Returns the user's folders that may be written to."""
        found = [self.options.ccache_folder] if self.options.ccache_folder else []
        return [*found, *([self.options.downloads] if fetches and self.options.downloads else [])]

    def readable(self) -> list[Path]:
        """Returns the user's folders that are read."""
        return [self.options.downloads] if self.options.downloads else []

    def run(
        self,
        place: Place,
        *targets: str,
        asked: Merged | None = None,
        total: int | None = None,
        fetches: bool = False,
        output: Path | None = None,
    ) -> Watch:
        """Makes targets in the step's sandbox, and tells how far it is.

        Args:
            place: the step's.
            targets: what is made.
            asked: for errors: who asked for which symbol.
            total: how many packages there are.
            fetches: whether the folder of downloads is written to.
            output: the output folder, if another than the host's.

        Returns:
            What was seen of it.

        Raises:
            ToolError: it failed; names the package, or the layer's hook, and whose it is.
        """
        watch = Watch(place=place, total=total)
        try:
            place.run(
                self.args(*targets, output=output),
                env=self.environment(),
                readable=self.readable(),
                writable=self.writable(fetches=fetches),
                on_line=watch.line,
            )
        except ToolError as error:
            if not (watch.package or watch.missing):
                raise
            told = failure(watch, asked, lambda package: self._wanted_by(place, package))
            tail: Sequence[str] = error.tail if isinstance(error, Failed) else ()
            raise Failed(f"{told}: {error.what}", tail=tail, where=error.where) from error
        return watch

    def read(self, place: Place, *targets: str) -> str:
        """Makes targets, and returns what was printed on standard output."""
        return place.read(self.args("-s", "--no-print-directory", *targets), env=self.environment())

    def _wanted_by(self, place: Place, package: str) -> list[str]:
        """Returns the packages that a package is built for, the nearest first; none where Buildroot does not say."""
        with suppress(ToolError):
            return self.read(place, f"{package}-show-recursive-rdepends").split()
        return []


@dataclass(slots=True, kw_only=True)
class Watch:
    """Looks at what Buildroot prints."""

    place: Place
    total: int | None = None
    package: str = ""
    """The one that it is at."""
    version: str = ""
    action: str = ""
    broken: str = ""
    """The folder of the package that make gave up at."""
    missing: list[str] = field(default_factory=list)
    """Programs that this machine lacks."""
    seen: set[str] = field(default_factory=set)
    named: list[str] = field(default_factory=list)
    """What ``show-build-order`` named: packages, host tools among them."""

    def line(self, line: str) -> None:
        """Takes a line."""
        bare = _ANSI.sub("", line).rstrip()
        if found := _STEP.match(bare):
            self.package, self.version, self.action = found["package"], found["version"], found["action"]
            if self.package and self.package != scripts.MARK:
                self.seen.add(self.package)
                self.place.progress.update(_PACKAGES, len(self.seen), self.total, unit=_PACKAGES)
        elif found := _MISSING.match(bare):
            self.missing.append(found[1])
        elif _NAME.fullmatch(bare):
            self.named.append(bare)
        elif found := _FAILED.search(bare):
            self.broken = self.broken or found["folder"]


def failure(watch: Watch, asked: Merged | None, wanted_by: Callable[[str], Sequence[str]]) -> str:
    """Returns what failed, and who wanted it.

    Args:
        watch: what was seen.
        asked: who asked for what.
        wanted_by: gives the packages that a package is built for.
    """
    if watch.missing:
        return f"Buildroot wants {', '.join(watch.missing)} on this machine: install it"
    if watch.package == scripts.MARK:
        return f"layer {watch.version}: its {watch.action} failed"
    package = watch.package
    if watch.broken and not watch.broken.startswith(f"{package}-"):
        package = re.sub(r"-[^-]*$", "", watch.broken)  # with several packages at once, the last line may be of another
    found = blame(package, asked)
    through = ""
    if found is None and asked is not None:
        for other in wanted_by(package):
            if found := blame(other, asked):
                through = f" through {other}"
                break
    what = f"package {package} failed" + (f" at: {watch.action}" if package == watch.package else "")
    return f"{what}, which {found.symbol} of {found.where} wants{through}" if found else what


def symbols_of(package: str) -> list[str]:
    """Returns the symbols that stand for a package: ``host-foo-bar`` has BR2_PACKAGE_HOST_FOO_BAR."""
    word = package.upper().replace("-", "_")
    special = [symbol for name, symbol in _PHASES.items() if package in (name, f"{name}-custom")]
    return [*special, f"BR2_PACKAGE_{word}", f"BR2_TARGET_{word}", f"BR2_TARGET_ROOTFS_{word.removeprefix('ROOTFS_')}"]


def blame(package: str, asked: Merged | None) -> Setting | None:
    """Returns the setting that asks for a package; None where no layer asks for it by name."""
    history: Mapping[str, Sequence[Setting]] = asked.history if asked is not None else {}
    for symbol in symbols_of(package):
        every = history.get(symbol)
        if every and every[-1].value == "y":
            return every[-1]
    return None
