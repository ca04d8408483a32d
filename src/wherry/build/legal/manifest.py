"""The terms of what Buildroot built: the folder that its ``make legal-info`` leaves.

::

    legal-info/
      manifest.csv        the columns of `_HEAD`, and DEPENDENCIES WITH LICENSES
      licenses/NAME-VERSION/FILE
      sources/NAME-VERSION/ARCHIVE     not there for what may not be passed on

Of the expressions a comma means that parts are under different licences, so that all hold; words in parentheses say
which part, or are a choice (``(A or B), C``).

Source: the Buildroot manual, "Complying with open source licenses"; package/pkg-utils.mk, "legal-info helper
functions".
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from pathlib import Path

from wherry.build.legal.component import MAX_TEXT_BYTES, Component, Facts
from wherry.core.durable import map_os_error
from wherry.core.errors import InvalidInput, NotFound
from wherry.image.sbom.copyright import debian_expression
from wherry.image.sbom.licences import conjunction
from wherry.image.sbom.model import Basis

FILE = "manifest.csv"
MAX_MANIFEST_BYTES = 16 * 1024 * 1024
_HEAD = ["PACKAGE", "VERSION", "LICENSE", "LICENSE FILES", "SOURCE ARCHIVE", "SOURCE SITE"]
_NOTHING = ("not saved", "no upstream", "unknown", "")
_PROPRIETARY = re.compile(r"\bproprietary\b|\bEULA\b|\bcommercial\b", re.IGNORECASE)
_NOTE = re.compile(r"\s*\([^()]*\)")
_CHOICE = re.compile(r"\(([^()]*\bor\b[^()]*)\)\s*(?=,|\Z|or\b|and\b)", re.IGNORECASE)
_DEPENDENCY = re.compile(r"([\w.+-]+) \[")


def read_manifest(folder: Path, *, architecture: str = "") -> Facts:
    """Returns the terms of Buildroot's packages for the target.

    Args:
        folder: that ``make legal-info`` made.
        architecture: that they are built for.

    Raises:
        NotFound: there is no manifest.
        InvalidInput: it is malformed; says the line.
    """
    path = folder / FILE
    rows = list(_rows(path))
    names = {row[0]: f"buildroot:{row[0]}:{architecture}@{row[1]}" for row in rows}
    components, texts, warnings = [], dict[str, bytes](), list[str]()
    saved = (folder / "sources").is_dir() and any((folder / "sources").iterdir())
    for row in rows:
        name, version, licence, files, archive, site = (cell.strip() for cell in row[:6])
        own = [f"buildroot/{name}/{text}" for text in _file_names(files)]
        for text in list(own):
            place = folder / "licenses" / f"{name}-{version}" / text.split("/", 2)[2]
            data = _read(place, folder)
            if data is None:
                warnings.append(f"{name}: the text {text.split('/', 2)[2]} is not there")
                own.remove(text)
            else:
                texts[text] = data
        known = licence if licence.lower() not in _NOTHING else ""
        origin = "" if archive.lower() in _NOTHING else archive
        has_source = (folder / "sources" / f"{name}-{version}" / archive).is_file()
        components.append(
            Component(
                kind="buildroot",
                name=name,
                version=version,
                architecture=architecture,
                licence=buildroot_expression(known),
                basis=Basis.DECLARED if known else Basis.UNKNOWN,
                source=name,
                source_version=version,
                origin=f"{site.rstrip('/')}/{origin}" if origin and site.lower() not in _NOTHING else origin,
                texts=tuple(own),
                proprietary=_proprietary(known, withheld=saved and bool(origin) and not has_source),
                depends=tuple(sorted({names[one] for one in _DEPENDENCY.findall(_last(row)) if one in names})),
            )
        )
    return Facts(components=tuple(components), texts=texts, warnings=tuple(warnings))


def _last(row: list[str]) -> str:
    return row[6] if len(row) > 6 else ""


def _proprietary(licence: str, *, withheld: bool) -> str:
    if _PROPRIETARY.search(licence):
        return f"Buildroot says: {licence}"
    return "Buildroot does not pass its source on" if withheld else ""


def _rows(path: Path) -> Iterator[list[str]]:
    try:
        with open(path, "rb") as file:
            data = file.read(MAX_MANIFEST_BYTES + 1)
    except FileNotFoundError:
        raise NotFound("no manifest of Buildroot's", where=path, hint="`make legal-info` makes it") from None
    except OSError as error:
        raise map_os_error(error, "cannot read", where=path) from error
    if len(data) > MAX_MANIFEST_BYTES:
        raise InvalidInput(f"more than {MAX_MANIFEST_BYTES} bytes", where=path)
    try:
        rows = [row for row in csv.reader(io.StringIO(data.decode("utf-8", "replace")), strict=True) if row]
    except csv.Error as error:
        raise InvalidInput(f"not comma-separated values: {error}", where=path) from error
    if not rows or rows[0][:6] != _HEAD:
        raise InvalidInput("not a manifest of Buildroot's", where=f"{path}:1", hint=f"it begins {', '.join(_HEAD)}")
    for number, row in enumerate(rows[1:], 2):
        if len(row) < 6 or not row[0].strip():
            raise InvalidInput(f"{len(row)} columns, not 6 or 7", where=f"{path}:{number}")
        if "/" in row[0] or row[0].startswith("."):
            raise InvalidInput(f"not a package's name: {row[0][:60]!r}", where=f"{path}:{number}")
        yield row


def _file_names(text: str) -> list[str]:
    names = [name for name in text.split() if text.strip().lower() not in _NOTHING]
    return [name for name in names if not name.startswith("/") and ".." not in name.split("/")]


def _read(path: Path, folder: Path) -> bytes | None:
    if not path.is_file() or not path.resolve().is_relative_to(folder.resolve()):
        return None
    try:
        with open(path, "rb") as file:
            data = file.read(MAX_TEXT_BYTES + 1)
    except OSError as error:
        raise map_os_error(error, "cannot read a licence's text", where=path) from error
    return data if len(data) <= MAX_TEXT_BYTES else None


def buildroot_expression(text: str) -> str:
    """Returns the SPDX expression of Buildroot's: ``GPL-2.0+ (programs), LGPL-2.1+ (libraries)``."""
    plain = _NOTE.sub("", _CHOICE.sub(r"\1", text))
    return conjunction(debian_expression(part) for part in plain.split(",") if part.strip())
