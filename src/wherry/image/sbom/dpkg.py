"""Packages that dpkg installed: its status file, or the ``status.d`` that images without dpkg have.

Source: dpkg(1); Debian Policy 5.3, 7 (relationships), 12.5 (copyright files).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace

from wherry.image.sbom.copyright import Read, read_copyright
from wherry.image.sbom.deb822 import Paragraph, paragraphs
from wherry.image.sbom.findings import Findings
from wherry.image.sbom.model import Basis, Component, Kind
from wherry.image.sbom.tree import Tree, Unreadable

STATUS = "var/lib/dpkg/status"
STATUS_D = "var/lib/dpkg/status.d"
INFO = "var/lib/dpkg/info"
MAX_STATUS_BYTES = 128 * 1024 * 1024
MAX_CONTROL_BYTES = 1024 * 1024
MAX_COPYRIGHT_BYTES = 4 * 1024 * 1024
MAX_LIST_BYTES = 64 * 1024 * 1024
MAX_ALL_LISTS_BYTES = 512 * 1024 * 1024
MAX_RELATIONS = 2000
"""Of one package."""

_GONE = ("not-installed", "config-files")
_NAME = re.compile(r"[a-z0-9][a-z0-9+.-]{0,254}\Z")
_VERSION = re.compile(r"[A-Za-z0-9.+:~-]{1,255}\Z")
_SOURCE = re.compile(r"(\S+)(?:\s+\(([^)]+)\))?\s*\Z")


def find_dpkg(tree: Tree, findings: Findings) -> None:
    """Finds the packages of dpkg."""
    found: list[tuple[Component, Paragraph]] = []
    for where, paragraph in _paragraphs(tree, findings):
        component = _component(tree, findings, where, paragraph)
        if component is not None:
            found.append((component, paragraph))
    by_name: dict[str, str] = {}
    for component, _ in found:
        by_name.setdefault(component.name, component.key)
    for component, paragraph in found:
        for name in _names(paragraph.get("provides")):
            by_name.setdefault(name, component.key)
    own = {(component.name, component.architecture): component.key for component, _ in found}
    for component, paragraph in found:
        keys = set()
        for group in _groups(f"{paragraph.get('pre-depends')},{paragraph.get('depends')}"):
            key = next((k for n in group if (k := own.get((n, component.architecture)) or by_name.get(n))), None)
            if key is not None and key != component.key:
                keys.add(key)
        findings.add(replace(component, depends=tuple(sorted(keys))))


def _paragraphs(tree: Tree, findings: Findings) -> Iterator[tuple[str, Paragraph]]:
    if tree.is_file(STATUS):
        try:
            text = tree.read_text(STATUS, max_bytes=MAX_STATUS_BYTES)
        except Unreadable as error:
            findings.warn(STATUS, f"dpkg's packages are not listed: {error.what}")
            text = ""
        for paragraph in paragraphs(text):
            yield STATUS, paragraph
    for name in tree.listdir(STATUS_D):
        path = f"{STATUS_D}/{name}"
        if name.endswith(".md5sums") or not tree.is_file(path):
            continue
        with findings.reading():
            for paragraph in paragraphs(tree.read_text(path, max_bytes=MAX_CONTROL_BYTES)):
                yield path, paragraph


def _component(tree: Tree, findings: Findings, where: str, paragraph: Paragraph) -> Component | None:
    name, version = paragraph.get("package"), paragraph.get("version")
    status = paragraph.get("status").split()
    if status and status[-1] in _GONE:
        return None
    if not _NAME.match(name) or not _VERSION.match(version):
        findings.warn(where, f"a paragraph that is no package (Package {name[:80]!r}, Version {version[:80]!r})")
        return None
    if paragraph.bad_lines:
        findings.warn(where, f"{paragraph.bad_lines} malformed lines at package {name}")
    licence, files = _licence(tree, findings, name)
    architecture = paragraph.get("architecture")
    source = _SOURCE.match(paragraph.get("source"))
    return Component(
        kind=Kind.DEB,
        name=name,
        version=version,
        namespace=findings.system.identifier or "debian",
        architecture=architecture,
        qualifiers=_qualifiers(architecture, findings.distro),
        licence=licence.licence,
        basis=licence.basis,
        licence_files=files,
        supplier=paragraph.get("maintainer"),
        homepage=paragraph.get("homepage"),
        summary=paragraph.get("description").split("\n")[0],
        source=f"{source[1]} {source[2] or version}" if source else "",
        found_in=where,
    )


def _qualifiers(architecture: str, distro: str) -> tuple[tuple[str, str], ...]:
    return tuple((name, value) for name, value in (("arch", architecture), ("distro", distro)) if value)


def _licence(tree: Tree, findings: Findings, name: str) -> tuple[Read, tuple[str, ...]]:
    path = f"usr/share/doc/{name}/copyright"
    nothing = Read(licence="", basis=Basis.UNKNOWN)
    real = tree.real(path)
    if real is None:
        return nothing, ()
    try:
        read = read_copyright(tree.read_text(path, max_bytes=MAX_COPYRIGHT_BYTES))
    except Unreadable as error:
        findings.warn(path, error.what)
        return nothing, ()
    for reference, text in read.texts:
        findings.text(reference, text)
    return read, (real,)


def _groups(text: str) -> Iterator[list[str]]:
    """Gives the names of each alternative of a relationship field: ``a (>= 1) | b, c:any``."""
    for count, group in enumerate(text.split(",")):
        if count >= MAX_RELATIONS:
            return
        names = [alternative.split("(")[0].split("[")[0].strip().split(":")[0] for alternative in group.split("|")]
        yield [name for name in names if name]


def _names(text: str) -> list[str]:
    return [group[0] for group in _groups(text) if group]


# --- which package a file belongs to


def owners(tree: Tree, findings: Findings, wanted: set[str]) -> dict[str, str]:
    """Returns the keys of the dpkg packages that brought some files.

    Args:
        tree: the image.
        findings: has the packages already.
        wanted: real paths.
    """
    packages: dict[str, str] = {}
    for component in findings.components():
        if component.kind is Kind.DEB:
            packages.setdefault(component.name, component.key)
            packages[f"{component.name}:{component.architecture}"] = component.key
    found: dict[str, str] = {}
    spellings = {name: path for path in wanted for name in _spellings(path)}
    left = MAX_ALL_LISTS_BYTES
    for name in tree.listdir(INFO) if wanted else ():
        key = packages.get(name.removesuffix(".list")) if name.endswith(".list") else None
        if key is None or left <= 0:
            continue
        with findings.reading():
            text = tree.read_text(f"{INFO}/{name}", max_bytes=min(MAX_LIST_BYTES, left))
            left -= len(text)
            for line in spellings.keys() & set(text.split("\n")):
                found.setdefault(spellings[line], key)
    return found


def _spellings(path: str) -> tuple[str, ...]:
    """Returns how a list may write a path: packages older than the merged /usr leave ``usr`` out."""
    return (f"/{path}", path.removeprefix("usr")) if path.startswith("usr/") else (f"/{path}",)
