"""Debian's copyright files: those for programs (DEP-5) are parsed, of the others the licences are recognised.

Source: Debian Policy 4.6, "Machine-readable debian/copyright file 1.0".
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from wherry.image.sbom.deb822 import paragraphs
from wherry.image.sbom.licences import conjunction, disjunction, expression, recognise, reference
from wherry.image.sbom.model import Basis

MAX_LICENCES = 500
"""Of one package."""
MAX_SHORT_NAME_CHARS = 300

_FORMAT = re.compile(r"\A\s*(?:#.*\n)*format(?:-specification)?:\s*\S*(?:copyright-format|dep-?5)", re.IGNORECASE)
_EXCEPTIONS = {
    "autoconf": "",
    "bison": "Bison-exception-2.2",
    "classpath": "Classpath-exception-2.0",
    "font": "Font-exception-2.0",
    "gcc": "GCC-exception-3.1",
    "libtool": "Libtool-exception",
}
"""Of which SPDX knows one version alone; the other exceptions stay names of Debian's."""
_WITH = re.compile(r"(\S+) with (?:the )?(\S+)[ -]exception\Z", re.IGNORECASE)
_GFDL = re.compile(r"GFDL-(1\.[123])(\+?)-(?:no-invariants|niv)(\+?)\Z", re.IGNORECASE)
_GFDL_PLAIN = re.compile(r"GFDL-(1\.[123])(\+?)\Z", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Read:
    """What a copyright file says."""

    licence: str
    """An SPDX expression: all that holds for a part of the package; "" when nothing is known."""
    basis: Basis
    texts: tuple[tuple[str, str], ...] = ()
    """``LicenseRef-`` and the text that stands under that name."""


def read_copyright(text: str) -> Read:
    """Returns the licences of one copyright file."""
    if _FORMAT.match(text):
        found = _machine_readable(text)
        if found.licence:
            return found
    licence = conjunction(recognise(text))
    return Read(licence=licence, basis=Basis.RECOGNISED if licence else Basis.UNKNOWN)


def _machine_readable(text: str) -> Read:
    names: dict[str, None] = {}
    texts: list[tuple[str, str]] = []
    for paragraph in paragraphs(text):
        name, _, body = paragraph.get("license").partition("\n")
        name = " ".join(name.split())
        if not name or len(name) > MAX_SHORT_NAME_CHARS or len(names) >= MAX_LICENCES:
            continue
        licence = debian_expression(name)
        if "files" in paragraph.fields or "format" in paragraph.fields:
            names.setdefault(licence)
        if licence.startswith("LicenseRef-") and " " not in licence and body.strip():
            texts.append((licence, _unfolded(body)))
    licence = conjunction(names)
    return Read(licence=licence, basis=Basis.DECLARED if licence else Basis.UNKNOWN, texts=tuple(texts))


def debian_expression(text: str) -> str:
    """Returns the SPDX expression of Debian's: ``GPL-2+ or Artistic, and BSD-3-clause``.

    A comma binds weaker than ``and`` and ``or``, ``and`` stronger than ``or`` ("License specification", "Syntax").
    """
    parts = re.split(r",\s*and\s+", text, flags=re.IGNORECASE)
    if len(parts) > 1:
        return conjunction(debian_expression(part) for part in parts)
    choices = re.split(r",?\s+(?:and/or|or)\s+|\s*\|\s*", text.strip(" ,"), flags=re.IGNORECASE)
    return disjunction(
        conjunction(_single(name) for name in re.split(r"\s+and\s+|\s*,\s*|\s+&\s+", choice, flags=re.IGNORECASE))
        for choice in choices
    )


def _single(name: str) -> str:
    name = name.strip()
    special = _WITH.match(name)
    if special is not None:
        exception = _EXCEPTIONS.get(special[2].lower(), "")
        licence = _single(special[1])
        if exception and not licence.startswith("LicenseRef-"):
            return f"{licence} WITH {exception}"
        return reference(name)
    documentation = _GFDL.match(name)
    if documentation is not None:
        later = "or-later" if documentation[2] or documentation[3] else "only"
        return f"GFDL-{documentation[1]}-no-invariants-{later}"
    documentation = _GFDL_PLAIN.match(name)
    if documentation is not None:
        return f"GFDL-{documentation[1]}-{'or-later' if documentation[2] else 'only'}"
    if " " in name:  # not for the reader of expressions, which would take "x or y" in it for a choice
        return expression(name) if expression(name).count(" ") == 0 else reference(name)
    return expression(name)


def _unfolded(body: str) -> str:
    return "\n".join("" if line.strip() == "." else line for line in body.split("\n"))
