"""Names of licences, made into SPDX expressions; and licences known by the words of their text.

A name that SPDX does not know becomes a ``LicenseRef-`` of it, so that nothing is dropped and nothing is guessed.
Source: SPDX 2.3, annex A (licence list), annex D (expressions).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any

from wherry.core.errors import Unsupported

if TYPE_CHECKING:
    from license_expression import Licensing

MAX_NAME_CHARS = 2000
"""A longer text in the place of a name is a licence's whole text."""
MAX_REF_CHARS = 60
HINT = "pip install wherry[images]"

_NOT_IDSTRING = re.compile(r"[^A-Za-z0-9.-]+")
_GNU = re.compile(r"(GPL|LGPL|AGPL)[-_ ]?v?(\d)(?:\.(\d))?(?:\.0)?\s*(\+|-or-later|-only)?\Z", re.IGNORECASE)
_ALIASES = {
    "apache 2": "Apache-2.0",
    "apache 2.0": "Apache-2.0",
    "apache license 2.0": "Apache-2.0",
    "apache license, version 2.0": "Apache-2.0",
    "apache software license": "Apache-2.0",
    "apache2": "Apache-2.0",
    "apache-2": "Apache-2.0",
    "artistic": "Artistic-1.0",
    "artistic-2": "Artistic-2.0",
    "bsd 2-clause": "BSD-2-Clause",
    "bsd 3-clause": "BSD-3-Clause",
    "bsd-2": "BSD-2-Clause",
    "bsd-3": "BSD-3-Clause",
    "bsl-1": "BSL-1.0",
    "boost": "BSL-1.0",
    "cc0": "CC0-1.0",
    "expat": "MIT",
    "gpl": "GPL-1.0-or-later",
    "isc license": "ISC",
    "lgpl": "LGPL-2.0-or-later",
    "mit license": "MIT",
    "mit-license": "MIT",
    "mpl-2": "MPL-2.0",
    "mpl 2.0": "MPL-2.0",
    "new bsd": "BSD-3-Clause",
    "ofl": "OFL-1.1",
    "psf": "PSF-2.0",
    "psf-2": "PSF-2.0",
    "psfl": "PSF-2.0",
    "the mit license": "MIT",
    "zope public license": "ZPL-2.1",
}
"""What is written often and means one licence."""


def expression(text: str) -> str:
    """Returns the SPDX expression that a statement is, "" for an empty one.

    Args:
        text: an expression, a name, or words for people.
    """
    text = " ".join(text.split())
    if not text or text.lower() in ("unknown", "none", "noassertion", "unlicensed", "see license"):
        return ""
    return _expression(text[:MAX_NAME_CHARS])


@lru_cache(maxsize=4096)
def _expression(text: str) -> str:
    alias = _alias(text)
    if alias:
        return alias
    known = _library()
    try:
        parsed = known.parse(_with_aliases(text), strict=False)
    except _parse_errors():
        return reference(text)
    if parsed is None:
        return ""
    replaced: dict[Any, Any] = {}
    for symbol in known.license_symbols(parsed, unique=True, decompose=True):
        if symbol.key not in known.known_symbols:
            replaced[symbol.key] = reference(symbol.key)
    rendered = str(parsed.render())
    if any(" WITH " in rendered and f"WITH {key}" in rendered for key in replaced):
        return reference(text)
    for key in sorted(replaced, key=len, reverse=True):
        rendered = re.sub(rf"(?<![\w.+-]){re.escape(key)}(?![\w.+-])", replaced[key], rendered)
    return rendered


def _alias(name: str) -> str:
    gnu = _GNU.match(name)
    if gnu is not None:
        minor = gnu[3] or "0"
        suffix = "-or-later" if (gnu[4] or "").lower() in ("+", "-or-later") else "-only"
        found = f"{gnu[1].upper()}-{gnu[2]}.{minor}{suffix}"
        return found if found in _library().known_symbols else ""
    return _ALIASES.get(name.lower(), "")


def _with_aliases(text: str) -> str:
    """Gives ``GPLv2+`` and the like their names inside an expression."""
    return " ".join(_in_parentheses(word) for word in re.sub(r"([()])", r" \1 ", text).split())


def _in_parentheses(word: str) -> str:
    return word if word.upper() in ("AND", "OR", "WITH", "(", ")") else _alias(word) or word


def reference(name: str) -> str:
    """Returns the ``LicenseRef-`` of a name that SPDX does not know (annex D: letters, digits, ``-`` and ``.``)."""
    plain = name.removeprefix("LicenseRef-").replace("+", "-plus")
    idstring = _NOT_IDSTRING.sub("-", plain).strip("-.")
    return f"LicenseRef-{idstring[:MAX_REF_CHARS].rstrip('-.') or 'unnamed'}"


def conjunction(expressions: Iterable[str]) -> str:
    """Returns the expression that all of these hold at once; each stands once, in order of the alphabet."""
    all_parts = {part for one in expressions if one for part in _top_level(one, " AND ")}
    parts = sorted(all_parts, key=lambda part: (part.startswith("LicenseRef-"), part))
    return parts[0] if len(parts) == 1 else " AND ".join(parts)


def disjunction(expressions: Iterable[str]) -> str:
    """Returns the expression of a choice, in the order given."""
    parts = list(dict.fromkeys(part for part in expressions if part))
    return parts[0] if len(parts) == 1 else " OR ".join(f"({part})" if " AND " in part else part for part in parts)


def _top_level(text: str, word: str) -> list[str]:
    """Returns the parts of an expression between `word`s that are in no parentheses; a choice is put in some."""
    if _depth_zero(text, " OR "):
        return [f"({text})"]
    parts, start = [], 0
    for at in _depth_zero(text, word):
        parts.append(text[start:at])
        start = at + len(word)
    return [*parts, text[start:]]


def _depth_zero(text: str, word: str) -> list[int]:
    depth, found = 0, []
    for at, char in enumerate(text):
        depth += (char == "(") - (char == ")")
        if char == " " and depth == 0 and text.startswith(word, at):
            found.append(at)
    return found


def parse(text: str) -> Any:
    """Returns the tree of an expression that ``expression`` made; see ``license_expression``."""
    return _library().parse(text, strict=False)


def _parse_errors() -> tuple[type[Exception], ...]:
    """Returns what the library raises for what is no expression.

    It asserts, and looks at what is not there, where words stand in an order that it did not expect.
    """
    from license_expression import ExpressionError, ExpressionParseError

    return ExpressionError, ExpressionParseError, AssertionError, IndexError, RecursionError


@cache
def _library() -> Licensing:
    try:
        from license_expression import get_spdx_licensing
    except ImportError:
        raise Unsupported("licences need the package license-expression", hint=HINT) from None
    return get_spdx_licensing()


# --- texts for people

_IDENTIFIER = re.compile(r"SPDX-License-Identifier:\s*([^\n*#]{1,200})")
_COMMON = re.compile(r"/usr/share/common-licenses/([A-Za-z0-9.+-]+[A-Za-z0-9])")
_LATER = re.compile(
    r"version (\d)(?:\.(\d))?(?:\.0)?,? (?:of the (?:license|licence),? )?(?:or|and) ?,? ?(?:\(?at your option\)? )?"
    r"(?:any|all) later version"
)
_GNU_NAMED = re.compile(
    r"gnu (lesser |library |affero )?general public licen[sc]e,? (?:version |v)(\d)(?:\.(\d))?"
    r"(,? ?\(?(?:of the licen[sc]e,? )?(?:or|and),? ?\(?(?:at your option\)?,? ?)?(?:any|all) later version)?"
)
_PHRASES = (
    (
        "MIT",
        (
            "permission is hereby granted, free of charge, to any person obtaining a copy of this software",
            "the above copyright notice and this permission notice shall be included",
        ),
    ),
    (
        "ISC",
        (
            "permission to use, copy, modify, and/or distribute this software for any purpose with or without fee",
            "all copies",
        ),
    ),
    (
        "Zlib",
        (
            "altered source versions must be plainly marked as such",
            "this notice may not be removed or altered from any source distribution",
        ),
    ),
    ("Apache-2.0", ("licensed under the apache license, version 2.0",)),
    ("BSL-1.0", ("boost software license - version 1.0",)),
    ("MPL-2.0", ("mozilla public license, v. 2.0",)),
)
_BSD = "redistributions of source code must retain the above copyright notice, this list of conditions"
_BSD_BINARY = "redistributions in binary form must reproduce the above copyright notice"
_BSD_NAME = re.compile(r"neither the names? of .{1,300}? may be used to endorse or promote products", re.DOTALL)
_BSD_ADVERTISING = "all advertising materials mentioning features or use of this software"


def recognise(text: str) -> tuple[str, ...]:
    """Returns the licences that a text names or quotes, as SPDX expressions, sorted; none when it shows none."""
    found = {expression(match.strip()) for match in _IDENTIFIER.findall(text)}
    words = " ".join(re.sub(r"[\s*#]+", " ", text).lower().split())
    later = {f"{major}.{minor or '0'}" for major, minor in _LATER.findall(words.replace('"', ""))}
    found |= {_common(name, later) for name in _COMMON.findall(text)}
    found |= {name for name, phrases in _PHRASES if all(phrase in words for phrase in phrases)}
    if _BSD in words and _BSD_BINARY in words:
        if _BSD_ADVERTISING in words:
            found.add("BSD-4-Clause")
        else:
            found.add("BSD-3-Clause" if _BSD_NAME.search(words) else "BSD-2-Clause")
    return tuple(sorted(found - {""} or _named_in(words)))


def _named_in(words: str) -> set[str]:
    """Returns the GNU licences that a text calls by their full names: ``GNU General Public License, version 2``."""
    found = set()
    for match in _GNU_NAMED.finditer(words.replace('"', "")):
        family = {"lesser ": "LGPL", "library ": "LGPL", "affero ": "AGPL", None: "GPL"}[match[1]]
        name = f"{family}-{match[2]}.{match[3] or '0'}-{'or-later' if match[4] else 'only'}"
        found |= {name} & _library().known_symbols.keys()
    return found


def _common(name: str, later: set[str]) -> str:
    """Returns the licence of a file in Debian's common-licenses; "or later" where the text says so of that version."""
    family, _, version = name.partition("-")
    if family not in ("GPL", "LGPL", "GFDL"):
        return {"BSD": "BSD-3-Clause", "Artistic": "Artistic-1.0-Perl"}.get(name) or expression(name)
    full = version if "." in version else f"{version}.0"
    if not version:  # a symbolic link to the newest
        known = [one for one in sorted(later) if f"{family}-{one}-or-later" in _library().known_symbols]
        return f"{family}-{known[0]}-or-later" if known else expression(name)
    return f"{family}-{full}-{'or-later' if full in later else 'only'}"
