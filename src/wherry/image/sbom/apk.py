"""Packages that apk installed.

Source: Alpine wiki, "Apk spec", "Installed database"; each field is one letter.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from wherry.image.sbom.findings import Findings
from wherry.image.sbom.licences import conjunction, expression
from wherry.image.sbom.model import Basis, Component, Kind
from wherry.image.sbom.tree import Tree, Unreadable

DATABASES = ("lib/apk/db/installed", "usr/lib/apk/db/installed")
MAX_DATABASE_BYTES = 128 * 1024 * 1024
MAX_WORDS = 2000
"""Of a field of dependencies."""

Record = dict[str, str]


def find_apk(tree: Tree, findings: Findings) -> None:
    """Finds the packages of apk."""
    where = next((path for path in DATABASES if tree.is_file(path)), None)
    if where is None:
        return
    try:
        text = tree.read_text(where, max_bytes=MAX_DATABASE_BYTES)
    except Unreadable as error:
        findings.warn(where, f"apk's packages are not listed: {error.what}")
        return
    found: list[tuple[Component, Record]] = []
    provided: dict[str, str] = {}
    for record in _records(text):
        if not record.get("P") or not record.get("V"):
            findings.warn(where, f"a record without a name or a version ({record.get('P', '')[:80]!r})")
            continue
        component = _component(tree, findings, where, record)
        found.append((component, record))
        provided.setdefault(component.name, component.key)
    for component, record in found:
        for word in _words(record.get("p", "")):
            provided.setdefault(word, component.key)
    for component, record in found:
        keys = {provided[word] for word in _words(record.get("D", "")) if word in provided}
        findings.add(replace(component, depends=tuple(sorted(keys - {component.key}))))


def _records(text: str) -> Iterator[Record]:
    """Gives the head of each record; the files after it (``F:``, ``R:`` ...) are left out."""
    record: Record = {}
    for line in [*text.split("\n"), ""]:
        if not line:
            if record:
                yield record
            record = {}
        elif line[1:2] == ":" and line[0] not in "FRaMZ":
            record.setdefault(line[0], line[2:].strip())


def _component(tree: Tree, findings: Findings, where: str, record: Record) -> Component:
    name, version, architecture = record["P"], record["V"], record.get("A", "")
    licence = _licence(record.get("L", ""))
    folder = f"usr/share/licenses/{name}"
    files = [real for file in tree.listdir(folder) if (real := tree.real(f"{folder}/{file}")) and tree.is_file(real)]
    origin = record.get("o", "")
    pairs = (("arch", architecture), ("distro", findings.distro))
    return Component(
        kind=Kind.APK,
        name=name,
        version=version,
        namespace=findings.system.identifier or "alpine",
        architecture=architecture,
        qualifiers=tuple((key, value) for key, value in pairs if value),
        licence=licence,
        basis=Basis.DECLARED if licence else Basis.UNKNOWN,
        licence_files=tuple(sorted(files)),
        supplier=record.get("m", ""),
        homepage=record.get("U", ""),
        summary=record.get("T", ""),
        source=f"{origin} {version}" if origin and origin != name else "",
        found_in=where,
    )


def _licence(text: str) -> str:
    """Returns the expression of a field that is one, or, in packages of old, names with spaces between them."""
    words = text.split()
    if len(words) > 1 and not {"AND", "OR", "WITH"} & {word.upper() for word in words}:
        return conjunction(expression(word) for word in words)
    return expression(text)


def _words(text: str) -> list[str]:
    """Returns the names of a field of dependencies: ``so:libc.musl-x86_64.so.1 busybox>=1.36 !uclibc``."""
    names = []
    for word in text.split()[:MAX_WORDS]:
        for sign in "<>=~":
            word = word.split(sign)[0]
        if word and not word.startswith("!"):
            names.append(word)
    return names
