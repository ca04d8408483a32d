"""The licence bundle of a host: what is handed on with it, as a folder or as an archive of the same bytes each time.

::

    README.txt             what it is; what is not free, what is not known, what is missing
    manifest.csv           a line for each component, for people and spreadsheets
    manifest.json          the same, with the parts of each source and the files of all sources
    licences/KIND/NAME/..  the texts; each once, however many components are under it
    sources/NAME_VERSION/  the files of a source package, with --sources

Names of texts come from packages: what is not a letter, digit or one of ``.+-_/`` has become ``_`` (`texts.py` of the
SBOMs), and none leaves the folder.
"""

from __future__ import annotations

import csv
import hashlib
import io
import shutil
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import IO, Any

from wherry.build.legal.component import Component, Facts
from wherry.core.durable import make_dirs, map_os_error
from wherry.core.errors import Conflict, InvalidInput, UsageError
from wherry.core.jsonio import pretty
from wherry.image.sbom.model import Basis
from wherry.spec.codec import encode
from wherry.version import __version__

COLUMNS = (
    "component", "version", "architecture", "kind", "licence", "basis", "proprietary", "source", "source version",
    "origin", "sha256", "texts",
)  # fmt: skip
SUFFIXES = (".tar", ".tar.gz", ".tgz", ".tar.zst")
_TOP = "legal-info"
_BASIS = {Basis.DECLARED: "declared", Basis.RECOGNISED: "guessed", Basis.UNKNOWN: "unknown"}
_ZSTD_LEVEL = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceFile:
    """A file of a source package."""

    name: str
    size: int
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SourcePackage:
    """A source package that was fetched."""

    name: str
    version: str
    files: tuple[SourceFile, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """What a bundle holds."""

    files: Mapping[str, bytes]
    sources: Mapping[str, Path] = field(default_factory=dict)
    """Files that are copied from where they lie, by their names in the bundle."""


def make_bundle(
    name: str,
    facts: Facts,
    *,
    digest: str = "",
    sources: Sequence[SourcePackage] = (),
    source_folder: Path | None = None,
    missing: Sequence[str] = (),
) -> Bundle:
    """Returns the bundle of a host.

    Args:
        name: the host's.
        facts: its components and texts.
        digest: of its root's commit; "" where there is none.
        sources: what was fetched.
        source_folder: where their files are, each package's in ``NAME_VERSION``.
        missing: sources that could not be had, for the README.
    """
    places, texts = _deduplicated(facts)
    components = sorted(facts.components, key=lambda item: item.key)
    files = {f"licences/{path}": data for path, data in texts.items()}
    files["manifest.csv"] = _csv(components, places)
    files["manifest.json"] = _json(name, digest, components, places, facts, sources, missing)
    files["README.txt"] = _readme(name, digest, components, facts, sources, missing)
    copied: dict[str, Path] = {}
    for package in sources if source_folder is not None else ():
        folder = f"{package.name}_{package.version.replace(':', '%3a')}"
        for file in package.files:
            copied[f"sources/{folder}/{file.name}"] = Path(source_folder or "") / folder / file.name
    for path in (*files, *copied):
        if PurePosixPath(path).is_absolute() or ".." in PurePosixPath(path).parts:
            raise InvalidInput("a name that leads out of the bundle", where=path)
    return Bundle(files=dict(sorted(files.items())), sources=dict(sorted(copied.items())))


def _deduplicated(facts: Facts) -> tuple[dict[str, str], dict[str, bytes]]:
    """Returns where each text is in the bundle, and the texts, each once."""
    first: dict[bytes, str] = {}
    places: dict[str, str] = {}
    texts: dict[str, bytes] = {}
    for name, data in sorted(facts.texts.items()):
        place = first.setdefault(hashlib.sha256(data).digest(), name)
        places[name] = place
        texts[place] = data
    return places, texts


def _own_texts(item: Component, places: Mapping[str, str]) -> list[str]:
    return sorted({f"licences/{places[name]}" for name in item.texts if name in places})


def _csv(components: Sequence[Component], places: Mapping[str, str]) -> bytes:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(COLUMNS)
    for item in components:
        cells = (
            item.name, item.version, item.architecture, item.kind, item.licence or "unknown", _BASIS[item.basis],
            item.proprietary, item.source, item.source_version, item.origin, item.sha256,
            " ".join(_own_texts(item, places)),
        )  # fmt: skip
        # A spreadsheet takes a cell that begins so for a formula.
        writer.writerow([f"'{cell}" if cell[:1] in "=+-@" and cell else cell for cell in cells])
    return out.getvalue().encode()


def _json(
    name: str,
    digest: str,
    components: Sequence[Component],
    places: Mapping[str, str],
    facts: Facts,
    sources: Sequence[SourcePackage],
    missing: Sequence[str],
) -> bytes:
    rows: list[dict[str, Any]] = []
    for item in components:
        row: dict[str, Any] = encode(item)
        rows.append({**row, "basis": _BASIS[item.basis], "texts": _own_texts(item, places)})
    document = {
        "host": name,
        "commit": digest or None,
        "components": rows,
        "sources": [encode(package) for package in sources],
        "missing_sources": list(missing),
        "warnings": list(facts.warnings),
    }
    return (pretty(document) + "\n").encode()


def _readme(
    name: str,
    digest: str,
    components: Sequence[Component],
    facts: Facts,
    sources: Sequence[SourcePackage],
    missing: Sequence[str],
) -> bytes:
    closed = [item for item in components if item.proprietary]
    guessed = [item for item in components if item.guessed]
    unknown = [item for item in components if not item.licence]
    lines = [
        f"The licences of {name}",
        "=" * (len(name) + 16),
        "",
        f"This is what wherry {__version__} found of the terms on which this host may be passed on.",
        *([f"It is about the root of commit {digest}."] if digest else []),
        "It is a help, and no lawyer's word: a package's own statement is repeated here as it stands.",
        "",
        f"  manifest.csv, manifest.json   {len(components)} components with licence, source and texts",
        f"  licences/                     {len({*facts.texts.values()})} texts",
    ]
    count = sum(len(package.files) for package in sources)
    lines += [f"  sources/                      {len(sources)} source packages, {count} files"] if sources else []
    lines += _section(
        "NOT FREE SOFTWARE",
        "Read their terms before you pass these on; there may be no right to do so.",
        [f"{item.name} {item.version}: {item.proprietary} ({item.licence or 'licence unknown'})" for item in closed],
        empty="There is none that says so.",
    )
    lines += _section(
        "Licence not known",
        "Nothing was found that says on which terms these are.",
        [f"{item.name} {item.version}" for item in unknown],
    )
    lines += _section(
        "Licence guessed",
        "Read out of a text for people, by what it names or by its words.",
        [f"{item.name} {item.version}: {item.licence}" for item in guessed],
    )
    lines += _section("Sources that are missing", "Ask their distributor for these.", list(missing))
    lines += _section("Not read", "These could not be read, so that something may be missing here.", facts.warnings)
    if not sources:
        lines += ["", "No sources are in here: `wherry host legal-info --sources` fetches those of Debian's packages."]
    return ("\n".join(lines) + "\n").encode()


def _section(title: str, words: str, rows: Sequence[str], *, empty: str = "") -> list[str]:
    if not rows:
        return ["", title, "-" * len(title), empty] if empty else []
    return ["", title, "-" * len(title), words, "", *(f"  {row}" for row in rows)]


# --- writing


def write_folder(bundle: Bundle, folder: Path) -> None:
    """Writes a bundle into a new or empty folder.

    Raises:
        Conflict: there is something in it.
        NoSpace, NotPermitted: it cannot be written.
    """
    try:
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise Conflict("there is something already", where=folder, hint="name a new folder")
        for name, data in bundle.files.items():
            make_dirs((folder / name).parent)
            (folder / name).write_bytes(data)
        for name, path in bundle.sources.items():
            make_dirs((folder / name).parent)
            shutil.copyfile(path, folder / name)
    except OSError as error:
        raise map_os_error(error, "cannot write the bundle", where=folder) from error


def is_archive(path: Path) -> bool:
    """Tells whether a name is one of an archive."""
    return path.name.endswith(SUFFIXES)


def write_archive(bundle: Bundle, path: Path, *, epoch: int = 0) -> None:
    """Writes a bundle as a tar, packed by what its name ends with: sorted, of root, all of one time.

    Args:
        bundle: what to write.
        path: where, which is replaced when it is whole.
        epoch: the time of its files.

    Raises:
        UsageError: the name is none of an archive.
        NoSpace, NotPermitted: it cannot be written.
    """
    if not is_archive(path):
        raise UsageError("no such archive", where=path, hint=f"its name ends with {', '.join(SUFFIXES)}")
    part = path.with_name(f".{path.name}.part")
    try:
        with open(part, "wb") as file, _packed(file, path.name) as out:
            with tarfile.open(fileobj=out, mode="w|", format=tarfile.PAX_FORMAT) as archive:
                for name in sorted((*bundle.files, *bundle.sources)):
                    _add(archive, f"{_TOP}/{name}", bundle.files.get(name), bundle.sources.get(name), epoch)
        part.replace(path)
    except OSError as error:
        raise map_os_error(error, "cannot write the bundle", where=path) from error
    finally:
        part.unlink(missing_ok=True)


def _add(archive: tarfile.TarFile, name: str, data: bytes | None, path: Path | None, epoch: int) -> None:
    info = tarfile.TarInfo(name)
    info.mtime, info.mode = epoch, 0o644
    if data is not None:
        info.size = len(data)
        archive.addfile(info, io.BytesIO(data))
    elif path is not None:
        with open(path, "rb") as file:
            info.size = path.stat().st_size
            archive.addfile(info, file)


@contextmanager
def _packed(file: IO[bytes], name: str) -> Iterator[Any]:
    if name.endswith(".zst"):
        import zstandard

        with zstandard.ZstdCompressor(level=_ZSTD_LEVEL).stream_writer(file, closefd=False) as out:
            yield out
    elif name.endswith((".gz", ".tgz")):
        import gzip

        with gzip.GzipFile(filename="", mode="wb", fileobj=file, mtime=0) as packed:
            yield packed
    else:
        yield file
