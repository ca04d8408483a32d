"""apt with a configuration of its own, for any architecture: which versions of which packages a list comes to.

::

    KEPT/apt/                    stays between runs, so that indices are not fetched again
      apt.conf, sources/         what is said here, and nothing of the machine's but its keys, proxies and passwords
      state/lists/               indices, as apt keeps them
      status                     empty: nothing is installed

Signatures of indices are checked by apt, with the machine's keys. Nothing is installed, and nothing of the machine's
own apt is touched.

Source: apt.conf(5), apt-get(8), apt-patterns(7).
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from wherry.build.debian.lock import Package, Role
from wherry.build.debian.options import Variant
from wherry.build.debian.sources import paragraphs
from wherry.build.debian.wishes import KERNEL_PREFIX, Wish
from wherry.core.digest import parse_checksum
from wherry.core.durable import make_dirs, write_file
from wherry.core.errors import InvalidInput, NetworkError, ToolError

if TYPE_CHECKING:
    from wherry.build.debian.sources import Source
    from wherry.build.steps import Place

MAX_TOLD_LINES = 8
_INSTALLED = re.compile(r"Inst (\S+) (?:\[[^\]]*\] )?\((\S+) .*\[(\S+)\]\)")
_UNKNOWN = re.compile(
    r"E: (?:Unable to locate package (?P<name>\S+)|Package '(?P<other>[^']+)' has no installation candidate"
    r"|Couldn't find any package by (?:glob|regex) '(?P<third>[^']+)')"
)
_KEPT_SETTINGS = re.compile(
    r'Acquire::(?:https?::[A-Za-z0-9:._/-]+|https?::Proxy|Check-Valid-Until|Check-Date|Retries) "[^"]*";\Z'
)
_PATTERNS = {
    Variant.ESSENTIAL: ("?essential",),
    Variant.MINBASE: ("?essential", "?priority(required)", "?exact-name(apt)"),
    Variant.EXTRACT: (),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Apt:
    """One private configuration."""

    place: Place
    folder: Path
    architecture: str

    @property
    def env(self) -> Mapping[str, str]:
        """What makes a command of apt's use it."""
        return {"APT_CONFIG": str(self.folder / "apt.conf")}

    def update(self) -> None:
        """Fetches the indices anew, where there are newer ones.

        Raises:
            NetworkError: a mirror is down, or what it says is not signed by a key that the machine trusts.
        """
        told: list[str] = []
        try:
            self.place.run(["apt-get", "update", "--error-on=any"], env=self.env, on_line=told.append)
        except ToolError as error:
            said = [line for line in told if line.startswith(("E: ", "Err:", "W: "))] or told
            raise NetworkError(
                f"cannot fetch the lists of packages: {_short(said)}", hint="see the mirrors that apt is set up with"
            ) from error

    def resolve(
        self, wishes: Sequence[Wish], role: Role, patterns: Sequence[str], *, recommends: bool
    ) -> list[Package]:
        """Returns all packages that a list comes to, with what they need.

        Args:
            wishes: the list.
            role: that the packages have.
            patterns: of apt's (apt-patterns(7)), for more of them.
            recommends: whether what is recommended comes, too.

        Raises:
            InvalidInput: a package is not there, or what it needs cannot be had; says who wants it.
        """
        told: list[str] = []
        option = f"APT::Install-Recommends={'true' if recommends else 'false'}"
        words = [*patterns, *(wish.name for wish in wishes)]
        try:
            self.place.run(
                ["apt-get", "--simulate", "--quiet", "--assume-yes", "-o", option, "install", *words],
                env=self.env,
                on_line=told.append,
            )
        except ToolError as error:
            raise self._explained(told, wishes) from error
        found = [match.groups() for line in told if (match := _INSTALLED.match(line))]
        return self._described(found, role)

    def _explained(self, told: Sequence[str], wishes: Sequence[Wish]) -> InvalidInput:
        by_name = {wish.name: wish.where for wish in wishes}
        unknown = [
            name for line in told if (match := _UNKNOWN.match(line)) for name in match.groups() if name is not None
        ]
        if unknown:
            return InvalidInput(
                f"no package {', '.join(dict.fromkeys(unknown))} for {self.architecture}",
                where="; ".join(dict.fromkeys(by_name.get(name, "apt") for name in unknown)),
                hint="see its name, and `components` and `suite` of `debian:` in host.yaml",
            )
        start = next((at + 1 for at, line in enumerate(told) if "unmet dependencies" in line), 0)
        said = [line for line in told[start:] if not line.startswith("E: ")] if start else []
        names = [line.split()[0] for line in said if line.startswith(" ") and line.split()[1:2] == [":"]]
        where = next((by_name[name] for name in names if name in by_name), None)
        if not said:
            said = [line for line in told if line.startswith("E: ")] or list(told)
        return InvalidInput(f"apt cannot put these packages together: {_short(said)}", where=where)

    def _described(self, found: Sequence[Sequence[str]], role: Role) -> list[Package]:
        if not found:
            return []
        text = self.place.read(
            ["apt-cache", "show", *(f"{name}={version}" for name, version, _ in found)], env=self.env
        )
        by_key: dict[tuple[str | None, ...], Mapping[str, str]] = {}
        for fields in paragraphs(text):
            by_key.setdefault((fields.get("package"), fields.get("version"), fields.get("architecture")), fields)
        packages: list[Package] = []
        for name, version, architecture in found:
            fields = by_key.get((name, version, architecture), {})
            if not {"filename", "size", "sha256"} <= fields.keys():
                raise InvalidInput(
                    f"the lists of packages do not describe {name} {version}", hint="is a mirror damaged?"
                )
            packages.append(
                Package(
                    role=role,
                    name=name,
                    version=version,
                    architecture=architecture,
                    size=int(fields["size"]),
                    sha256=parse_checksum(fields["sha256"], where=name),
                    path=fields["filename"].removeprefix("./"),
                )
            )
        return packages

    def packages(self, wishes: Sequence[Wish], variant: Variant, *, recommends: bool) -> list[Package]:
        """Returns the packages of a host: those of its root, and those of its boot.

        Raises:
            InvalidInput: see `resolve`.
        """
        root = [wish for wish in wishes if wish.role == Role.ROOT]
        boot = [wish for wish in wishes if wish.role == Role.BOOT]
        found: list[Package] = []
        patterns = [f"?narrow(?architecture({self.architecture}),{one})" for one in _PATTERNS[variant]]
        if root or patterns:
            found += self.resolve(root, Role.ROOT, patterns, recommends=recommends)
        if boot:
            # These are only unpacked, so what they need to be installed is left out; a kernel's package for all
            # versions leads to the one of a version.
            names = {wish.name for wish in boot}
            every = self.resolve(boot, Role.BOOT, (), recommends=False)
            found += [one for one in every if one.name in names or one.name.startswith(KERNEL_PREFIX)]
        return found


def prepare(place: Place, sources: Sequence[Source], architecture: str) -> Apt:
    """Writes a private configuration.

    Args:
        place: where; with the network.
        sources: the repositories.
        architecture: Debian's name.
    """
    folder = place.kept / "apt"
    shutil.rmtree(folder / "sources", ignore_errors=True)
    for name in ("state/lists/partial", "cache/archives/partial", "sources", "preferences", "none"):
        make_dirs(folder / name)
    stanzas = "\n".join(source.stanza() for source in sources)
    write_file(folder / "sources/wherry.sources", stanzas.encode())
    write_file(folder / "status", b"")
    lines = machine_settings(place)
    settings = {
        "Dir": folder,
        "Dir::State": folder / "state",
        "Dir::State::status": folder / "status",
        "Dir::Cache": folder / "cache",
        "Dir::Etc::main": "/dev/null",
        "Dir::Etc::parts": folder / "none",
        "Dir::Etc::sourcelist": "/dev/null",
        "Dir::Etc::sourceparts": folder / "sources",
        "Dir::Etc::preferences": "/dev/null",
        "Dir::Etc::preferencesparts": folder / "preferences",
        "Dir::Etc::netrc": "/etc/apt/auth.conf",
        "Dir::Etc::netrcparts": "/etc/apt/auth.conf.d",
        "Dir::Etc::trusted": "/etc/apt/trusted.gpg",
        "Dir::Etc::trustedparts": "/etc/apt/trusted.gpg.d",
        "APT::Architecture": architecture,
        "APT::Sandbox::User": "root",
        "APT::Install-Suggests": "false",
        "Acquire::Languages": "none",
    }
    lines += [f'{key} "{value}";' for key, value in settings.items()]
    lines.append(f'APT::Architectures {{ "{architecture}"; }};')
    write_file(folder / "apt.conf", "".join(f"{line}\n" for line in lines).encode())
    return Apt(place=place, folder=folder, architecture=architecture)


def machine_settings(place: Place) -> list[str]:
    """Returns what the machine's apt is told of the network: proxies, retries, and whether clocks are believed."""
    told = place.read(["apt-config", "dump", "Acquire"])
    return [line for line in told.splitlines() if _KEPT_SETTINGS.match(line)]


def _short(lines: Sequence[str]) -> str:
    words = [" ".join(line.split()) for line in lines if line.strip()]
    more = f"; and {len(words) - MAX_TOLD_LINES} more" if len(words) > MAX_TOLD_LINES else ""
    return "; ".join(words[:MAX_TOLD_LINES]) + more
