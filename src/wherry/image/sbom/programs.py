"""What programs say of their own making: Go's build information, and the crates that cargo-auditable leaves.

Looked at are executable files and shared libraries. Go before 1.18 writes pointers where later ones write strings;
those programs are named in a warning, and not read. A module's ``h1:`` sum is of its source, so that it stands
as a property, not as a hash of what is in the image.

Source: Go's packages debug/buildinfo ("the build info blob") and runtime/debug (ParseBuildInfo); cargo-auditable's
PARSING.md.
"""

from __future__ import annotations

import shutil
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, BinaryIO, cast

from wherry.core import jsonio
from wherry.core.errors import InvalidInput, WherryError
from wherry.image.sbom import elf
from wherry.image.sbom.findings import Findings
from wherry.image.sbom.model import Component, Kind
from wherry.image.sbom.tree import Tree, Unreadable

MAX_MODULES = 20_000
"""Of one program."""
MAX_MODINFO_BYTES = 8 * 1024 * 1024
MAX_CRATES_BYTES = 8 * 1024 * 1024
MAX_PROGRAM_BYTES = 2 * 1024 * 1024 * 1024
"""Of one that must be copied out first, because the repository is compressed."""

_GO, _RUST = ".go.buildinfo", ".dep-v0"
_MAGIC = b"\xff Go buildinf:"
_HEAD_BYTES = 32
_INLINE_STRINGS = 2
_SENTINEL_BYTES = 16


def find_programs(tree: Tree, findings: Findings) -> None:
    """Finds Go modules and Rust crates in programs."""
    for path, executable in tree.files():
        if not executable and ".so" not in path.rpartition("/")[2]:
            continue
        try:
            with tree.open(path) as file, _seekable(file, path) as whole:
                if whole is None:
                    continue
                found = elf.sections(whole, (_GO, _RUST))
            if _GO in found:
                _go(path, found[_GO], findings)
            if _RUST in found:
                _rust(path, found[_RUST], findings)
        except (OSError, WherryError) as error:
            findings.warn(path, error.what if isinstance(error, WherryError) else f"cannot be read ({error})")


@contextmanager
def _seekable(file: BinaryIO, path: str) -> Iterator[BinaryIO | None]:
    """Gives an ELF file that can be read from anywhere; None for what is no ELF file."""
    head = file.read(len(elf.MAGIC))
    if head != elf.MAGIC:
        yield None
        return
    try:
        file.seek(0)
        yield file
        return
    except (OSError, AttributeError, ValueError):  # inflated on the fly
        pass
    with tempfile.TemporaryFile() as copy:
        copy.write(head)
        shutil.copyfileobj(file, copy)
        if copy.tell() > MAX_PROGRAM_BYTES:
            raise Unreadable(f"longer than {MAX_PROGRAM_BYTES} bytes", where=path)
        yield cast(BinaryIO, copy)


# --- Go


def _go(path: str, data: bytes, findings: Findings) -> None:
    at = data.find(_MAGIC)
    if at < 0 or len(data) < at + _HEAD_BYTES:
        raise Unreadable("Go's build information is malformed")
    if not data[at + 15] & _INLINE_STRINGS:
        raise Unreadable("a program of Go before 1.18: its modules are not listed")
    version, at = _varint_string(data, at + _HEAD_BYTES)
    info, _ = _varint_string(data, at)
    if len(info) >= 2 * _SENTINEL_BYTES + 1 and info[-_SENTINEL_BYTES - 1 : -_SENTINEL_BYTES] == b"\n":
        info = info[_SENTINEL_BYTES:-_SENTINEL_BYTES]
    keys: list[Component] = []
    main: Component | None = None
    release = version.decode("utf-8", "replace").split()[:1]
    if release and release[0].startswith("go"):
        keys.append(Component(kind=Kind.GOLANG, name="stdlib", version=release[0].removeprefix("go"), found_in=path))
    for word, module in go_modules(info.decode("utf-8", "replace"), path):
        if word == "mod":
            main = module
        else:
            keys.append(module)
    for component in keys:
        findings.add(component)
    if main is not None:
        depends = tuple(sorted({component.key for component in keys}))
        findings.add(replace(main, depends=depends))


def go_modules(text: str, path: str) -> list[tuple[str, Component]]:
    """Returns the modules that a program's module information names, with ``mod`` or ``dep`` before each.

    A ``=>`` line puts a module in the place of the one before it: that is the one that was built.
    """
    found: list[tuple[str, Component]] = []
    for line in text.split("\n"):
        fields = line.split("\t")
        if fields[0] not in ("mod", "dep", "=>") or len(fields) < 3 or not fields[1]:
            continue
        if fields[0] == "=>":
            if found:
                word, before = found.pop()
                found.append((word, _module(fields, path, replaces=f"{before.namespace}/{before.name}".strip("/"))))
            continue
        if len(found) >= MAX_MODULES:
            raise Unreadable(f"more than {MAX_MODULES} modules")
        found.append((fields[0], _module(fields, path)))
    return found


def _module(fields: list[str], path: str, *, replaces: str = "") -> Component:
    namespace, _, name = fields[1].rpartition("/")
    properties = []
    if len(fields) > 3 and fields[3].startswith("h1:"):
        properties.append(("go:sum", fields[3]))
    if replaces:
        properties.append(("go:replaces", replaces))
    return Component(
        kind=Kind.GOLANG,
        name=name or fields[1],
        namespace=namespace,
        version=fields[2],
        properties=tuple(properties),
        found_in=path,
    )


def _varint_string(data: bytes, at: int) -> tuple[bytes, int]:
    size = shift = 0
    while True:
        if at >= len(data) or shift > 35:
            raise Unreadable("Go's build information is malformed")
        byte = data[at]
        at += 1
        size |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            break
    if size > MAX_MODINFO_BYTES or at + size > len(data):
        raise Unreadable("Go's build information is malformed")
    return data[at : at + size], at + size


# --- Rust


def _rust(path: str, data: bytes, findings: Findings) -> None:
    inflate = zlib.decompressobj()
    try:
        plain = inflate.decompress(data, MAX_CRATES_BYTES)
    except zlib.error:
        raise Unreadable("cargo-auditable's list of crates is damaged") from None
    if inflate.unconsumed_tail or not inflate.eof:
        raise Unreadable("cargo-auditable's list of crates is cut short or too long")
    try:
        document = jsonio.loads(plain, max_bytes=MAX_CRATES_BYTES)
    except InvalidInput as error:
        raise Unreadable(f"cargo-auditable's list of crates: {error.what}") from None
    packages = document.get("packages") if isinstance(document, dict) else None
    if not isinstance(packages, list) or len(packages) > MAX_MODULES:
        raise Unreadable("cargo-auditable's list of crates is malformed")
    crates = [_crate(package, path) for package in packages]
    for crate, package in zip(crates, packages, strict=True):
        numbers = package.get("dependencies") if isinstance(package, dict) else None
        if crate is None:
            findings.warn(path, "a crate without a name or a version")
            continue
        below = [crates[n] for n in numbers or () if isinstance(n, int) and 0 <= n < len(crates)]
        findings.add(replace(crate, depends=tuple(sorted({other.key for other in below if other is not None}))))


def _crate(package: Any, path: str) -> Component | None:
    if not isinstance(package, dict):
        return None
    name, version = package.get("name"), package.get("version")
    if not isinstance(name, str) or not isinstance(version, str) or not name or not version:
        return None
    source = package.get("source")
    properties = (("cargo:source", source),) if isinstance(source, str) and source else ()
    return Component(kind=Kind.CARGO, name=name, version=version, properties=properties, found_in=path)
