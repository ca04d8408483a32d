"""The source packages of Debian that a host's packages were built from, fetched by apt with a configuration of its own.

::

    FOLDER/NAME_VERSION/      NAME_VERSION.dsc, the upstream archives, debian.tar.xz
    WORK/                     apt's own: its lists, its configuration; may be kept for the next time

Exactly the versions that are in the host are asked for; what a mirror no longer has is told by name, and the others
come. apt checks the lists by the machine's keys and each file by the lists; the digests here are of what arrived.
Nothing of the machine's apt is changed.

Source: apt-get(8), apt.conf(5), sources.list(5).
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from wherry.build.legal.bundle import SourceFile, SourcePackage
from wherry.build.legal.component import Component
from wherry.core.durable import make_dirs, map_os_error, write_file
from wherry.core.errors import InvalidInput, NetworkError, NotFound, ToolError
from wherry.core.proc import run
from wherry.core.progress import QUIET, Progress

UPDATE_TIMEOUT_S = 600.0
FETCH_TIMEOUT_S = 3600.0
HINT = "install apt"
_TASK = "fetching sources"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetched:
    """What came."""

    packages: tuple[SourcePackage, ...] = ()
    missing: tuple[str, ...] = ()
    """Name, version, and why."""


def wanted_sources(components: Iterable[Component]) -> list[tuple[str, str]]:
    """Returns name and version of each source package that Debian's packages are made of, parts of others included."""
    found = set()
    for item in components:
        if item.kind != "deb":
            continue
        found.add((item.source, item.source_version))
        for text in item.built_using:
            name, _, version = text.partition(" ")
            found.add((name, version))
    return sorted(found)


def fetch_sources(
    wanted: Sequence[tuple[str, str]],
    stanzas: Sequence[str],
    folder: Path,
    work: Path,
    *,
    progress: Progress = QUIET,
) -> Fetched:
    """Fetches source packages; those that are there already are taken as they are.

    Args:
        wanted: names and versions.
        stanzas: repositories, in the deb822 form of sources.list(5); of binary packages or of sources.
        folder: where to.
        work: for apt.
        progress: is told how many are there.

    Raises:
        NetworkError: the lists cannot be fetched, or are not signed by a key that the machine trusts.
        Unsupported: apt is not here.
        InvalidInput: there is no repository.
    """
    if not stanzas:
        raise InvalidInput("no repository to fetch sources from")
    env = _prepare(stanzas, work)
    packages, missing = [], []
    if any(_read(folder, name, version) is None for name, version in wanted):
        progress.update("fetching the lists of sources", 0, None)
        try:
            run(["apt-get", "update", "--error-on=any"], env=env, timeout_s=UPDATE_TIMEOUT_S, hint=HINT)
        except ToolError as error:
            raise NetworkError(f"cannot fetch the lists of sources: {error.what}") from error
    for count, (name, version) in enumerate(wanted):
        progress.update(_TASK, count, len(wanted), unit="packages")
        package = _read(folder, name, version)
        if package is None:
            reason = _fetch(folder, name, version, env)
            package = _read(folder, name, version) if not reason else None
            if package is None:
                missing.append(f"{name} {version}: {reason or 'apt fetched nothing'}")
                continue
        packages.append(package)
    progress.update(_TASK, len(wanted), len(wanted), unit="packages")
    return Fetched(packages=tuple(packages), missing=tuple(missing))


def keep_archives(name: str, version: str, archives: Sequence[Path], folder: Path) -> SourcePackage:
    """Puts the files of a source that was compiled beside those of packages.

    Args:
        name: of the source.
        version: of it.
        archives: its files.
        folder: where to.

    Raises:
        NotFound: one of them is not there.
    """
    top = folder / folder_name(name, version)
    make_dirs(top)
    try:
        for path in archives:
            shutil.copyfile(path, top / path.name)
    except FileNotFoundError as error:
        raise NotFound("a source is not kept any more", where=error.filename, hint="build the host again") from error
    except OSError as error:
        raise map_os_error(error, "cannot copy a source", where=top) from error
    package = _read(folder, name, version)
    if package is None:
        raise NotFound("a source without files", where=name)
    return package


def folder_name(name: str, version: str) -> str:
    """Returns the name of a source package's folder; a colon would be one of a drive elsewhere."""
    return f"{name}_{version.replace(':', '%3a')}"


def _fetch(folder: Path, name: str, version: str, env: dict[str, str]) -> str:
    """Fetches one; returns why not."""
    part = folder / f".{folder_name(name, version)}.part"
    make_dirs(part)
    words = ["apt-get", "source", "--download-only", "--only-source", "-q", f"{name}={version}"]
    try:
        run(words, cwd=part, env=env, timeout_s=FETCH_TIMEOUT_S, hint=HINT)
    except ToolError as error:
        shutil.rmtree(part, ignore_errors=True)
        said = [line.strip() for line in error.what.split(" | ") if "E: " in line]
        return said[-1].partition("E: ")[2] if said else error.what
    try:
        for path in part.iterdir():
            if path.is_symlink():  # what apt makes of a repository in a folder of this machine
                target = path.resolve()
                path.unlink()
                shutil.copyfile(target, path)
        part.rename(folder / folder_name(name, version))
    except OSError as error:
        raise map_os_error(error, "cannot keep a source package", where=part) from error
    return ""


def _read(folder: Path, name: str, version: str) -> SourcePackage | None:
    top = folder / folder_name(name, version)
    if not top.is_dir():
        return None
    files = []
    try:
        for path in sorted(top.iterdir()):
            if path.is_file() and not path.is_symlink():
                with open(path, "rb") as file:
                    sha256 = hashlib.file_digest(file, "sha256").hexdigest()
                files.append(SourceFile(name=path.name, size=path.stat().st_size, sha256=sha256))
    except OSError as error:
        raise map_os_error(error, "cannot read a source package", where=top) from error
    return SourcePackage(name=name, version=version, files=tuple(files)) if files else None


def _prepare(stanzas: Sequence[str], work: Path) -> dict[str, str]:
    """Writes apt's configuration; returns the environment that makes it use it."""
    for name in ("state/lists/partial", "cache/archives/partial", "sources", "preferences", "none"):
        make_dirs(work / name)
    text = "\n".join(_of_sources(stanza) for stanza in stanzas)
    write_file(work / "sources/wherry.sources", text.encode())
    write_file(work / "status", b"")
    asked = run(["apt-config", "dump", "Acquire"], hint=HINT).stdout.decode(errors="replace")
    kept = [line for line in asked.splitlines() if line.startswith(_KEPT) and line.endswith('";')]
    settings = {
        "Dir": work,
        "Dir::State": work / "state",
        "Dir::State::status": work / "status",
        "Dir::Cache": work / "cache",
        "Dir::Etc::main": "/dev/null",
        "Dir::Etc::parts": work / "none",
        "Dir::Etc::sourcelist": "/dev/null",
        "Dir::Etc::sourceparts": work / "sources",
        "Dir::Etc::preferences": "/dev/null",
        "Dir::Etc::preferencesparts": work / "preferences",
        "Dir::Etc::netrc": "/etc/apt/auth.conf",
        "Dir::Etc::netrcparts": "/etc/apt/auth.conf.d",
        "Dir::Etc::trusted": "/etc/apt/trusted.gpg",
        "Dir::Etc::trustedparts": "/etc/apt/trusted.gpg.d",
        "APT::Sandbox::User": "root",
        "Acquire::Languages": "none",
    }
    lines = [*kept, *(f'{key} "{value}";' for key, value in settings.items())]
    write_file(work / "apt.conf", "".join(f"{line}\n" for line in lines).encode())
    return {"APT_CONFIG": str(work / "apt.conf"), "PATH": _PATH, "LC_ALL": "C", "HOME": str(work)}


_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_KEPT = ("Acquire::http", "Acquire::https", "Acquire::Check-", "Acquire::Retries")
"""What the machine's apt is told of the network: proxies, retries, and whether clocks are believed."""


def _of_sources(stanza: str) -> str:
    lines = ["Types: deb-src", *(line for line in stanza.splitlines() if not line.lower().startswith("types:"))]
    return "".join(f"{line}\n" for line in lines if line.strip())
