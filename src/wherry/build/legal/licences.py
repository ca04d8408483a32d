"""The terms of a tree made of Debian's packages: by dpkg's list and copyright files, or by the packages themselves.

A small host has no ``/usr/share/doc``, and may have no ``/var/lib/dpkg``. Both are then taken out of the packages that
it was made of, which lie in the downloads; nothing of them is run.

Source: Debian Policy 2.2 (archive areas), 12.5 (copyright files); "Machine-readable debian/copyright file 1.0"; deb(5).
"""

from __future__ import annotations

import re
import subprocess
import tarfile
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from wherry.build.legal.component import Component, Facts, Part
from wherry.core.errors import InvalidInput, Unsupported
from wherry.core.proc import run
from wherry.core.progress import QUIET, Progress
from wherry.image.sbom.copyright import debian_expression, read_copyright
from wherry.image.sbom.deb822 import Paragraph, paragraphs
from wherry.image.sbom.describe import find
from wherry.image.sbom.dpkg import MAX_COPYRIGHT_BYTES, MAX_STATUS_BYTES, STATUS, STATUS_D
from wherry.image.sbom.model import Basis, Inventory, Kind
from wherry.image.sbom.texts import collect
from wherry.image.sbom.tree import Tree, Unreadable

if TYPE_CHECKING:
    from wherry.image.sbom.model import Component as Found

DOC = "usr/share/doc"
COMMON = "usr/share/common-licenses"
COMMON_OWNER = "base-files"
"""The package that common-licenses are in."""
NOT_FREE = ("non-free", "non-free-firmware")
MAX_PARTS = 500
MAX_PATTERNS = 40
"""Of one part, that are kept; a copyright file may list every file by its name."""
HINT = "install dpkg"
_USED = re.compile(r"([a-z0-9][a-z0-9+.-]*) \(= ([^)\s]+)\)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Deb:
    """A package that a tree was made of."""

    name: str
    path: Path
    """Its file."""
    version: str = ""
    """"" where only the name counts."""
    sha256: str = ""
    origin: str = ""
    """The file's path below a mirror."""


def debian_tree(tree: Tree, debs: Sequence[Deb] = (), *, progress: Progress = QUIET) -> Tree:
    """Returns a tree with what says of it what it is made of: dpkg's status and copyright files out of its packages.

    Args:
        tree: the host's.
        debs: the packages that it was made of.
        progress: is told how many of them are read.

    Raises:
        ToolError, InvalidInput: a file is no package.
        Unsupported: dpkg is not here.
    """
    extra: dict[str, bytes] = {}
    known = {paragraph.get("package") for paragraph in _paragraphs(tree)}
    untold = [deb for deb in debs if deb.name not in known]
    if untold:
        text = tree.read(STATUS, max_bytes=MAX_STATUS_BYTES).rstrip() + b"\n\n" if tree.is_file(STATUS) else b""
        extra[STATUS] = text + _status(untold)
    lacking = [deb for deb in debs if not tree.is_file(f"{DOC}/{deb.name}/copyright")]
    if not tree.listdir(COMMON):
        lacking += [deb for deb in debs if deb.name == COMMON_OWNER and deb not in lacking]
    texts: dict[str, bytes] = {}
    links: dict[str, str] = {}
    for count, deb in enumerate(lacking):
        progress.update("reading licences in packages", count, len(lacking), unit="packages")
        _read_deb(deb, texts, links)
    progress.update("reading licences in packages", len(lacking), len(lacking), unit="packages")
    for name, target in links.items():
        data = texts.get(f"{DOC}/{target}/copyright")
        if data is None:
            with suppress(Unreadable):  # neither here nor there: the package stays without a text
                data = tree.read(f"{DOC}/{target}/copyright", max_bytes=MAX_COPYRIGHT_BYTES)
        if data is not None:
            texts.setdefault(f"{DOC}/{name}/copyright", data)
    return tree.with_files({**extra, **texts}) if extra or texts else tree


def _status(debs: Iterable[Deb]) -> bytes:
    out = []
    for deb in debs:
        fields = run(["dpkg-deb", "--field", str(deb.path)], hint=HINT).stdout.decode(errors="replace")
        out.append(f"{fields.rstrip()}\nStatus: install ok installed\n")
    return "\n".join(out).encode()


def _read_deb(deb: Deb, texts: dict[str, bytes], links: dict[str, str]) -> None:
    """Takes out of a package its copyright file, or the name of the package that has it, and common-licenses."""
    own = f"{DOC}/{deb.name}"
    try:
        process = subprocess.Popen(
            ["dpkg-deb", "--fsys-tarfile", str(deb.path)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
    except FileNotFoundError:
        raise Unsupported("program not found: dpkg-deb", hint=HINT) from None
    with process:
        try:
            with tarfile.open(fileobj=process.stdout, mode="r|") as archive:
                for member in archive:
                    name = member.name.removeprefix("./")
                    if name in (own, f"{own}/copyright") and member.issym():
                        parts = PurePosixPath(member.linkname).parts
                        links[deb.name] = parts[-2] if name != own and len(parts) > 1 else parts[-1]
                    elif name == f"{own}/copyright" or PurePosixPath(name).parent == PurePosixPath(COMMON):
                        data = _content(archive, member)
                        if data is not None:
                            texts[name] = data
                    if deb.name != COMMON_OWNER and (deb.name in links or f"{own}/copyright" in texts):
                        break
        except tarfile.TarError as error:
            raise InvalidInput(f"not a package of Debian's: {error}", where=deb.path) from error
        finally:
            process.kill()  # what is left of it is not wanted


def _content(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes | None:
    if not member.isreg() or member.size > MAX_COPYRIGHT_BYTES:
        return None
    file = archive.extractfile(member)
    return None if file is None else file.read()


@dataclass(frozen=True, slots=True, kw_only=True)
class Described:
    """What a tree is made of."""

    facts: Facts
    inventory: Inventory
    """The same, for an SBOM."""


def describe_tree(
    tree: Tree, debs: Sequence[Deb] = (), *, name: str, digest: str = "", progress: Progress = QUIET
) -> Described:
    """Returns what a host's tree is made of: packages of Debian, and of every other manager that left traces.

    Args:
        tree: the host's.
        debs: the packages that it was made of, for those whose copyright files are gone.
        name: the host's.
        digest: what names the tree: ``sha256:`` and hex digits.
        progress: is told how far it is.

    Raises:
        ToolError, InvalidInput: a file among `debs` is no package.
        Unsupported: a package or program for this is not installed.
    """
    whole = debian_tree(tree, debs, progress=progress)
    inventory = find(whole, progress).inventory(name=name, digest=digest, created="1970-01-01T00:00:00Z", platform="")
    texts, unread = collect(whole, inventory)
    texts.pop("licences.json")
    paths = _paths(inventory, whole, texts)
    told = {paragraph.get("package"): paragraph for paragraph in _paragraphs(whole)}
    debs_by_name = {deb.name: deb for deb in debs}
    components = tuple(
        _component(
            item,
            whole,
            paths.get(item.key, ()),
            told.get(item.name, Paragraph()),
            _of(debs_by_name.get(item.name), item.version),
        )
        for item in inventory.components
    )
    warnings = (*(f"{item.where}: {item.what}" for item in inventory.warnings), *unread)
    keys = dict(zip((item.key for item in inventory.components), (item.key for item in components), strict=True))
    return Described(
        facts=Facts(
            components=tuple(_renamed(component, keys) for component in components), texts=texts, warnings=warnings
        ),
        inventory=inventory,
    )


def _paths(inventory: Inventory, tree: Tree, texts: Mapping[str, bytes]) -> dict[str, tuple[str, ...]]:
    """Returns the names in a bundle of each component's texts: those with its files' contents."""
    by_content: dict[bytes, str] = {}
    for name, data in texts.items():
        by_content.setdefault(data, name)
    found: dict[str, tuple[str, ...]] = {}
    for item in inventory.components:
        names = []
        for path in item.licence_files:
            with suppress(Unreadable):  # `collect` has said so
                names.append(by_content.get(tree.read(path, max_bytes=MAX_COPYRIGHT_BYTES), ""))
        names += [f"LicenseRef/{ref.removeprefix('LicenseRef-')}.txt" for ref in _references(item.licence)]
        found[item.key] = tuple(dict.fromkeys(name for name in names if name in texts))
    return found


def _references(licence: str) -> list[str]:
    words = licence.replace("(", " ").replace(")", " ").split()
    return [word for word in words if word.startswith("LicenseRef-")]


def _paragraphs(tree: Tree) -> list[Paragraph]:
    """Returns what dpkg says of each package."""
    found = []
    for path in (STATUS, *(f"{STATUS_D}/{name}" for name in tree.listdir(STATUS_D))):
        with suppress(Unreadable):  # there may be the one or the other
            found += list(paragraphs(tree.read_text(path, max_bytes=MAX_STATUS_BYTES)))
    return [paragraph for paragraph in found if paragraph.get("package")]


def _built_using(paragraph: Paragraph) -> tuple[str, ...]:
    fields = f"{paragraph.get('built-using')}, {paragraph.get('static-built-using')}"
    return tuple(sorted({f"{name} {version}" for name, version in _USED.findall(fields)}))


def _component(item: Found, tree: Tree, texts: tuple[str, ...], told: Paragraph, deb: Deb | None) -> Component:
    source, _, source_version = item.source.partition(" ")
    is_deb = item.kind is Kind.DEB
    area = told.get("section").partition("/")[0] if is_deb else ""
    namespace = f"{item.namespace}/" if item.namespace and not is_deb else ""
    return Component(
        kind=str(item.kind),
        name=f"{namespace}{item.name}",
        version=item.version,
        architecture=item.architecture,
        licence=item.licence,
        basis=item.basis,
        parts=_parts(item, tree) if is_deb else (),
        source=(source or item.name) if is_deb else source,
        source_version=(source_version or item.version) if is_deb else source_version,
        origin=deb.origin if deb is not None and is_deb else "",
        sha256=deb.sha256 if deb is not None and is_deb else "",
        built_using=_built_using(told) if is_deb else (),
        texts=texts,
        proprietary=f"in Debian's {area}" if area in NOT_FREE else "",
        depends=item.depends,
    )


def _of(deb: Deb | None, version: str) -> Deb | None:
    """Returns a package if it is of that version: a lock may have changed since a host was built."""
    return deb if deb is not None and deb.version in ("", version) else None


def _renamed(component: Component, keys: Mapping[str, str]) -> Component:
    from dataclasses import replace

    return replace(component, depends=tuple(keys[key] for key in component.depends if key in keys))


def _parts(item: Found, tree: Tree) -> tuple[Part, ...]:
    if item.basis is not Basis.DECLARED:
        return ()
    for path in item.licence_files:
        with suppress(Unreadable):  # told already
            return copyright_parts(tree.read_text(path, max_bytes=MAX_COPYRIGHT_BYTES))
    return ()


def copyright_parts(text: str) -> tuple[Part, ...]:
    """Returns the parts of a source by the stanzas of its machine-readable copyright file; none for another kind."""
    if read_copyright(text).basis is not Basis.DECLARED:
        return ()
    parts: dict[str, list[str]] = {}
    for paragraph in paragraphs(text):
        licence = " ".join(paragraph.get("license").partition("\n")[0].split())
        files = paragraph.get("files").split()
        if licence and files and len(parts) < MAX_PARTS:
            parts.setdefault(debian_expression(licence[:300]), []).extend(files)
    return tuple(
        Part(licence=licence, files=tuple(files[:MAX_PATTERNS]), count=len(files)) for licence, files in parts.items()
    )
