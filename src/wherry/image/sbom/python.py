"""Python's installed distributions: ``*.dist-info/METADATA`` and ``*.egg-info``.

Source: packaging.python.org, "Core metadata" 2.4 (License-Expression, License-File), "Recording installed projects".
"""

from __future__ import annotations

import re
from dataclasses import replace

from wherry.image.sbom.findings import Findings
from wherry.image.sbom.licences import MAX_NAME_CHARS, conjunction, expression, recognise
from wherry.image.sbom.model import Basis, Component, Kind
from wherry.image.sbom.tree import Tree, Unreadable

MAX_METADATA_BYTES = 4 * 1024 * 1024
MAX_LICENCE_BYTES = 1024 * 1024
MAX_HEADERS = 5000
_NAMES = ("license", "licence", "copying", "notice", "authors")
_REQUIRES = re.compile(r"\s*([A-Za-z0-9][A-Za-z0-9._-]*)")
_CLASSIFIERS = {
    "Apache Software License": "Apache-2.0",
    "BSD License": "LicenseRef-BSD",
    "ISC License (ISCL)": "ISC",
    "MIT License": "MIT",
    "MIT No Attribution License (MIT-0)": "MIT-0",
    "Mozilla Public License 1.1 (MPL 1.1)": "MPL-1.1",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "GNU General Public License v2 (GPLv2)": "GPL-2.0-only",
    "GNU General Public License v2 or later (GPLv2+)": "GPL-2.0-or-later",
    "GNU General Public License v3 (GPLv3)": "GPL-3.0-only",
    "GNU General Public License v3 or later (GPLv3+)": "GPL-3.0-or-later",
    "GNU General Public License (GPL)": "GPL-1.0-or-later",
    "GNU Lesser General Public License v2 (LGPLv2)": "LGPL-2.0-only",
    "GNU Lesser General Public License v2 or later (LGPLv2+)": "LGPL-2.0-or-later",
    "GNU Lesser General Public License v3 (LGPLv3)": "LGPL-3.0-only",
    "GNU Lesser General Public License v3 or later (LGPLv3+)": "LGPL-3.0-or-later",
    "GNU Library or Lesser General Public License (LGPL)": "LGPL-2.0-or-later",
    "GNU Affero General Public License v3": "AGPL-3.0-only",
    "GNU Affero General Public License v3 or later (AGPLv3+)": "AGPL-3.0-or-later",
    "Python Software Foundation License": "PSF-2.0",
    "The Unlicense (Unlicense)": "Unlicense",
    "Zope Public License": "ZPL-2.1",
    "zlib/libpng License": "Zlib",
}
"""Trove classifiers below ``License :: OSI Approved`` that mean one licence; "BSD License" does not say which."""

Headers = dict[str, list[str]]


def find_python(tree: Tree, findings: Findings) -> None:
    """Finds Python's distributions."""
    found: list[tuple[Component, list[str]]] = []
    by_place: dict[tuple[str, str], str] = {}
    for path, _ in tree.files():
        folder, _, name = path.rpartition("/")
        metadata = folder.endswith(".dist-info") and name == "METADATA"
        egg = (folder.endswith(".egg-info") and name == "PKG-INFO") or name.endswith(".egg-info")
        if not metadata and not egg:
            continue
        try:
            headers = _headers(tree.read_text(path, max_bytes=MAX_METADATA_BYTES))
        except Unreadable as error:
            findings.warn(path, error.what)
            continue
        component = _component(tree, path, headers)
        if component is None:
            findings.warn(path, "a distribution without a name or a version")
            continue
        site = (folder if name.endswith(".egg-info") else folder.rpartition("/")[0]) if folder else ""
        by_place.setdefault((site, normalised(component.name)), component.key)
        found.append((component, [f"{site}\0{other}" for other in _required(headers)]))
    for component, names in found:
        pairs = (name.split("\0") for name in names)
        keys = {key for site, name in pairs if (key := by_place.get((site, name)))}
        findings.add(replace(component, depends=tuple(sorted(keys - {component.key}))))


def normalised(name: str) -> str:
    """Returns a name as all spellings of it are compared ("Names and normalization")."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _headers(text: str) -> Headers:
    """Returns the fields before the first empty line, names in lower case; continued lines are joined."""
    headers: Headers = {}
    last: list[str] | None = None
    for count, line in enumerate(text.split("\n")):
        line = line.rstrip("\r")
        if not line or count >= MAX_HEADERS:
            break
        if line[0] in " \t":
            if last is not None:
                last[-1] += "\n" + line.strip()
            continue
        name, colon, value = line.partition(":")
        last = headers.setdefault(name.strip().lower(), []) if colon else None
        if last is not None:
            last.append(value.strip())
    return headers


def _first(headers: Headers, name: str) -> str:
    return headers.get(name, [""])[0]


def _component(tree: Tree, path: str, headers: Headers) -> Component | None:
    name, version = _first(headers, "name"), _first(headers, "version")
    if not name or not version or "\n" in name or "\n" in version:
        return None
    files = _licence_files(tree, path)
    licence, basis = _licence(tree, headers, files)
    homepage = _first(headers, "home-page")
    for link in headers.get("project-url", []):
        label, _, url = link.partition(",")
        if not homepage and label.strip().lower() in ("homepage", "source", "repository", "source code"):
            homepage = url.strip()
    return Component(
        kind=Kind.PYPI,
        name=normalised(name),
        version=version,
        licence=licence,
        basis=basis,
        licence_files=files,
        supplier=(_first(headers, "author") or _first(headers, "author-email")).split("\n")[0],
        homepage="" if homepage == "UNKNOWN" else homepage,
        summary=_first(headers, "summary"),
        found_in=path,
    )


def _licence_files(tree: Tree, path: str) -> tuple[str, ...]:
    folder = path.rpartition("/")[0]
    if not folder.endswith((".dist-info", ".egg-info")):
        return ()
    found = [f"{folder}/{name}" for name in tree.listdir(folder) if name.lower().startswith(_NAMES)]
    pending = [f"{folder}/licenses"]
    while pending and len(found) < MAX_HEADERS:
        place = pending.pop()
        for name in tree.listdir(place):
            (found if tree.is_file(f"{place}/{name}") else pending).append(f"{place}/{name}")
    return tuple(sorted({file for file in found if tree.is_file(file) and tree.real(file) == file}))


def _licence(tree: Tree, headers: Headers, files: tuple[str, ...]) -> tuple[str, Basis]:
    """Returns what the newest of the fields says; the texts are looked at when none says which licence it is."""
    said = expression(_first(headers, "license-expression"))
    if said:
        return said, Basis.DECLARED
    prefix = "License :: OSI Approved :: "
    names = [line.removeprefix(prefix) for line in headers.get("classifier", []) if line.startswith(prefix)]
    classified = conjunction(expression(_CLASSIFIERS.get(name, name)) for name in names)
    text = _first(headers, "license")
    named = "" if "\n" in text or len(text) > 100 else expression(text)
    for candidate in (named, classified):
        if candidate and "LicenseRef-" not in candidate:
            return candidate, Basis.DECLARED
    seen = set(recognise(text[:MAX_LICENCE_BYTES])) if len(text) > 100 and len(text) > MAX_NAME_CHARS // 10 else set()
    for file in files if not seen else ():
        try:
            seen |= set(recognise(tree.read_text(file, max_bytes=MAX_LICENCE_BYTES)))
        except Unreadable:
            continue  # the licence is known, or not known, from elsewhere
    if seen:
        return conjunction(seen), Basis.RECOGNISED
    found = named or classified
    return found, Basis.DECLARED if found else Basis.UNKNOWN


def _required(headers: Headers) -> list[str]:
    """Returns what is needed without extras."""
    found = []
    for line in headers.get("requires-dist", []):
        requirement, _, marker = line.partition(";")
        match = _REQUIRES.match(requirement)
        if match is not None and "extra" not in marker:
            found.append(normalised(match[1]))
    return found
