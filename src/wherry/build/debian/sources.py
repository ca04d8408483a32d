"""Where packages come from: the machine's own apt sources for a suite, or those that a workspace names.

A machine of another release of the same distribution has the suite on the same mirrors, so its own suites' names are
taken as patterns: ``bookworm-security`` there is ``trixie-security`` here. Sources of anybody else are left alone.

Source: sources.list(5).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from wherry.core.durable import map_os_error
from wherry.core.errors import InvalidInput, NotFound

if TYPE_CHECKING:
    from wherry.build.debian.options import Options

APT_FOLDER = Path("/etc/apt")
OS_RELEASE = Path("/etc/os-release")
MAX_SOURCES_BYTES = 1024 * 1024
_POCKETS = ("", "-updates", "-security", "/updates")
_LINE = re.compile(
    r"deb\s+(?:\[(?P<options>[^\]]*)\]\s+)?(?P<uri>\S+)\s+(?P<suite>\S+)(?P<components>(?:\s+\S+)*)\s*\Z"
)
_OPTIONS = {"signed-by": "Signed-By", "trusted": "Trusted", "check-valid-until": "Check-Valid-Until"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A repository."""

    uris: tuple[str, ...]
    suites: tuple[str, ...]
    components: tuple[str, ...] = ()
    """None for a flat one."""
    fields: tuple[tuple[str, str], ...] = ()
    """More of its stanza: ``Signed-By`` and the like."""
    types: tuple[str, ...] = ("deb",)
    """``deb`` for packages, ``deb-src`` for their sources."""

    def stanza(self) -> str:
        """Returns it in the deb822 form of sources.list(5)."""
        lines = [f"Types: {' '.join(self.types)}", f"URIs: {' '.join(self.uris)}", f"Suites: {' '.join(self.suites)}"]
        if self.components:
            lines.append(f"Components: {' '.join(self.components)}")
        return "".join(f"{line}\n" for line in [*lines, *(f"{key}: {value}" for key, value in self.fields)])


def sources_for(options: Options, *, apt: Path = APT_FOLDER, os_release: Path = OS_RELEASE) -> list[Source]:
    """Returns the repositories of a suite.

    Args:
        options: the suite, its components, and mirrors if any are named.
        apt: the machine's folder of apt's configuration.
        os_release: the machine's description of itself.

    Raises:
        InvalidInput: a line is none.
        NotFound: nothing here has the suite.
    """
    if options.mirrors:
        return [_named(text, options) for text in options.mirrors]
    every = list(machine_sources(apt))
    found = list(_of_suite(every, options.suite, options.suite, options))
    own = _codename(os_release)
    if not found and own:
        found = list(_of_suite(every, own, options.suite, options))
    if not found:
        raise NotFound(
            f"this machine's apt has no source for {options.suite!r}",
            where=apt,
            hint="name one in host.yaml, `debian: {mirrors: [...]}`",
        )
    return found


def _named(text: str, options: Options) -> Source:
    if not text.startswith("deb "):
        if ("://" not in text and not text.startswith("file:/")) or any(char.isspace() for char in text):
            raise InvalidInput(
                f"mirrors: neither an address nor a line of sources.list: {text[:80]!r}", where="host.yaml: debian"
            )
        return Source(uris=(text,), suites=(options.suite,), components=options.components)
    found = _parse_line(text)
    if found is None:
        raise InvalidInput(f"mirrors: not a line of sources.list: {text[:80]!r}", where="host.yaml: debian")
    return found


def _of_suite(every: Iterable[Source], own: str, suite: str, options: Options) -> Iterator[Source]:
    names = {own + pocket: suite + pocket for pocket in _POCKETS}
    for source in every:
        suites = tuple(names[name] for name in source.suites if name in names)
        if suites:
            yield Source(
                uris=source.uris,
                suites=suites,
                components=options.components if source.components else (),
                fields=source.fields,
            )


def machine_sources(apt: Path) -> Iterator[Source]:
    """Gives the repositories of binary packages that a machine's apt knows; lines that are none are passed over."""
    folder = apt / "sources.list.d"
    names = sorted(folder.iterdir()) if folder.is_dir() else []
    for path in (apt / "sources.list", *names):
        if not path.is_file():
            continue
        try:
            with open(path, "rb") as file:
                text = file.read(MAX_SOURCES_BYTES).decode(errors="replace")
        except OSError as error:
            raise map_os_error(error, "cannot read", where=path) from error
        if path.suffix == ".sources":
            yield from _stanzas(text)
        elif path.suffix == ".list":
            yield from (found for line in text.splitlines() if (found := _parse_line(line.partition("#")[0])))


def _parse_line(line: str) -> Source | None:
    match = _LINE.match(line.strip())
    if match is None:
        return None
    fields: list[tuple[str, str]] = []
    for word in (match["options"] or "").split():
        key, _, value = word.partition("=")
        if key.lower() in _OPTIONS:
            fields.append((_OPTIONS[key.lower()], value))
    return Source(
        uris=(match["uri"],),
        suites=(match["suite"],),
        components=tuple(match["components"].split()),
        fields=tuple(fields),
    )


def _stanzas(text: str) -> Iterator[Source]:
    for fields in paragraphs(text):
        if "deb" not in fields.get("types", "").split() or fields.get("enabled", "yes").lower() in ("no", "false"):
            continue
        uris, suites = tuple(fields.get("uris", "").split()), tuple(fields.get("suites", "").split())
        if uris and suites:
            kept = tuple((name, fields[key]) for key, name in _OPTIONS.items() if fields.get(key))
            yield Source(uris=uris, suites=suites, components=tuple(fields.get("components", "").split()), fields=kept)


def paragraphs(text: str) -> Iterator[Mapping[str, str]]:
    """Gives the paragraphs of a control file, each with its fields by their names in lower case.

    Source: Debian Policy 5.1, "Syntax of control files".
    """
    fields: dict[str, str] = {}
    last = ""
    for line in (*text.splitlines(), ""):
        if line.startswith("#"):
            continue
        if not line.strip():
            if fields:
                yield fields
            fields, last = {}, ""
        elif line[0] in " \t":
            if last:
                fields[last] += f"\n{line}"
        else:
            key, colon, value = line.partition(":")
            last = key.strip().lower() if colon else ""
            if last:
                fields[last] = value.strip()


def _codename(os_release: Path) -> str:
    try:
        with open(os_release, "rb") as file:
            text = file.read(MAX_SOURCES_BYTES).decode(errors="replace")
    except OSError:
        return ""  # a machine without one has no codename
    for line in text.splitlines():
        key, _, value = line.partition("=")
        if key == "VERSION_CODENAME":
            return value.strip("\"' ")
    return ""
