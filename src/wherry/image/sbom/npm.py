"""Packages of npm that are installed: each ``package.json`` below a ``node_modules``.

Hashes come from ``node_modules/.package-lock.json``. A ``package-lock.json`` that has no ``node_modules`` beside it (an
application in one file) is listed itself, without what is for development.

Source: npm docs, package.json and package-lock.json (lockfileVersion 2 and 3); nodejs.org, "Loading from node_modules
folders"; W3C Subresource Integrity.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import replace
from typing import Any

from wherry.core import jsonio
from wherry.core.errors import InvalidInput
from wherry.image.sbom.findings import Findings
from wherry.image.sbom.licences import conjunction, disjunction, expression
from wherry.image.sbom.model import Basis, Component, Kind
from wherry.image.sbom.tree import Tree, Unreadable

MAX_PACKAGE_BYTES = 2 * 1024 * 1024
MAX_LOCK_BYTES = 32 * 1024 * 1024
MAX_DEPENDENCIES = 2000
_MODULES = "node_modules"


def find_npm(tree: Tree, findings: Findings) -> None:
    """Finds the packages of npm."""
    found: dict[str, tuple[Component, list[str]]] = {}
    locks: dict[str, dict[str, Any]] = {}
    for path, _ in tree.files():
        folder, _, name = path.rpartition("/")
        if name == "package.json" and _is_package(folder):
            document = _load(tree, findings, path, MAX_PACKAGE_BYTES)
            component = _component(tree, findings, path, document) if document is not None else None
            if component is not None:
                found[folder] = component, _keys(document, "dependencies")
        elif name == ".package-lock.json" and folder.rpartition("/")[2] == _MODULES:
            locks[folder.rpartition("/")[0]] = _load(tree, findings, path, MAX_LOCK_BYTES) or {}
        elif (
            name == "package-lock.json" and _MODULES not in path.split("/") and not tree.listdir(f"{folder}/{_MODULES}")
        ):
            _from_lock(findings, path, _load(tree, findings, path, MAX_LOCK_BYTES) or {})
    _hashes(found, locks)
    for folder, (component, names) in found.items():
        keys = {other[0].key for name in names if (other := _resolve(found, folder, name)) is not None}
        findings.add(replace(component, depends=tuple(sorted(keys - {component.key}))))


def _is_package(folder: str) -> bool:
    """Tells whether this is ``node_modules/NAME`` or ``node_modules/@SCOPE/NAME``."""
    parts = folder.split("/")
    if len(parts) >= 3 and parts[-2].startswith("@"):
        return parts[-3] == _MODULES
    return len(parts) >= 2 and parts[-2] == _MODULES and not parts[-1].startswith("@")


def _load(tree: Tree, findings: Findings, path: str, max_bytes: int) -> dict[str, Any] | None:
    try:
        document = jsonio.loads(tree.read(path, max_bytes=max_bytes), max_bytes=max_bytes)
    except Unreadable as error:
        findings.warn(path, error.what)
        return None
    except InvalidInput as error:
        findings.warn(path, error.what)
        return None
    if not isinstance(document, dict):
        findings.warn(path, "not a JSON object")
        return None
    return document


def _component(tree: Tree, findings: Findings, path: str, document: dict[str, Any]) -> Component | None:
    name, version = document.get("name"), document.get("version")
    if not isinstance(name, str) or not isinstance(version, str) or not name or not version:
        if "name" in document and "version" in document:  # else it only says how a folder's files are read
            findings.warn(path, "a package without a name or a version")
        return None
    folder = path.rpartition("/")[0]
    licence = _licence(document)
    files = [
        file for file in tree.listdir(folder) if file.lower().startswith(("license", "licence", "copying", "notice"))
    ]
    return _made(
        name,
        version,
        path,
        licence,
        licence_files=tuple(
            f"{folder}/{file}" for file in files if tree.real(f"{folder}/{file}") == f"{folder}/{file}"
        ),
        homepage=_text(document.get("homepage")),
        summary=_text(document.get("description")),
        supplier=_person(document.get("author")),
    )


def _made(name: str, version: str, path: str, licence: str, **more: Any) -> Component:
    scope, _, rest = name.rpartition("/")
    basis = Basis.DECLARED if licence else Basis.UNKNOWN
    return Component(
        kind=Kind.NPM, name=rest, namespace=scope, version=version, licence=licence, basis=basis, found_in=path, **more
    )


def _licence(document: dict[str, Any]) -> str:
    value = document.get("license")
    if isinstance(value, str):
        return "" if value.upper().startswith("SEE LICENSE") else expression(value)
    if isinstance(value, dict):
        return expression(_text(value.get("type")))
    values = value if isinstance(value, list) else document.get("licenses")
    if isinstance(values, list):  # of old: a choice
        names = [
            item if isinstance(item, str) else _text(item.get("type"))
            for item in values
            if isinstance(item, str | dict)
        ]
        return disjunction(expression(name) for name in names)
    return ""


def _from_lock(findings: Findings, path: str, document: dict[str, Any]) -> None:
    packages = document.get("packages")
    for place, entry in packages.items() if isinstance(packages, dict) else ():
        if not place or not isinstance(entry, dict) or entry.get("dev") or entry.get("link"):
            continue
        name, version = place.rpartition(f"{_MODULES}/")[2], entry.get("version")
        if not name or not isinstance(version, str):
            continue
        hashed = hash_of(_text(entry.get("integrity")))
        licence = conjunction([expression(_text(entry.get("license")))])
        findings.add(_made(name, version, path, licence, hashes=(hashed,) if hashed else ()))


def _hashes(found: dict[str, tuple[Component, list[str]]], locks: dict[str, dict[str, Any]]) -> None:
    for top, lock in locks.items():
        packages = lock.get("packages")
        for place, entry in packages.items() if isinstance(packages, dict) else ():
            folder = f"{top}/{place}" if top else place
            known = found.get(folder)
            hashed = hash_of(_text(entry.get("integrity"))) if isinstance(entry, dict) else None
            if known is not None and hashed is not None and entry.get("version") == known[0].version:
                found[folder] = replace(known[0], hashes=(hashed,)), known[1]


def _resolve(
    found: dict[str, tuple[Component, list[str]]], folder: str, name: str
) -> tuple[Component, list[str]] | None:
    """Finds what ``require(name)`` in a folder would: in its ``node_modules``, or in one above."""
    while True:
        if folder.rpartition("/")[2] != _MODULES:
            hit = found.get(f"{folder}/{_MODULES}/{name}" if folder else f"{_MODULES}/{name}")
            if hit is not None:
                return hit
        if not folder:
            return None
        folder = folder.rpartition("/")[0]


def _keys(document: dict[str, Any] | None, field: str) -> list[str]:
    value = (document or {}).get(field)
    return sorted(value)[:MAX_DEPENDENCIES] if isinstance(value, dict) else []


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _person(value: Any) -> str:
    return _text(value.get("name")) if isinstance(value, dict) else _text(value)


def hash_of(integrity: str) -> tuple[str, str] | None:
    """Returns what a subresource-integrity value (``sha512-BASE64``) says, in CycloneDX's words; None if malformed."""
    name, _, text = integrity.partition("-")
    algorithm = {"sha1": ("SHA-1", 20), "sha256": ("SHA-256", 32), "sha512": ("SHA-512", 64)}.get(name)
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None
    return (algorithm[0], raw.hex()) if algorithm is not None and len(raw) == algorithm[1] else None
