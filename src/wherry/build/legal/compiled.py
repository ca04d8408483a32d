"""The terms of what is compiled from source: a kernel, busybox, a library.

In the order of trust: what the builder says of a source that it knows; ``debian/copyright`` of a Debian source
package; what files such as ``COPYING`` declare with an SPDX tag, or show by their words. The texts are all such files
at the top of the source, and those below ``LICENSES/``, as in the kernel.

Source: the kernel's Documentation/process/license-rules.rst; Debian Policy 12.5.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

from wherry.build.legal.component import MAX_TEXT_BYTES, Component, Facts, Part
from wherry.build.legal.licences import copyright_parts
from wherry.core.durable import map_os_error
from wherry.core.errors import NotFound
from wherry.image.sbom.copyright import read_copyright
from wherry.image.sbom.licences import conjunction, expression, recognise
from wherry.image.sbom.model import Basis

KNOWN = {
    "linux": "GPL-2.0-only WITH Linux-syscall-note",
    "busybox": "GPL-2.0-only",
    "libcap": "BSD-3-Clause OR GPL-2.0-only",
}
"""What the sources that Wherry builds are under as a whole, by their own words in COPYING, LICENSE and License."""
MAX_TEXTS = 500
MAX_TAGGED_FILES = 200_000
_TEXT = re.compile(r"(COPYING|COPYRIGHT|LICEN[SC]E|NOTICE|PATENTS)([._-].*)?\Z", re.IGNORECASE)
_FOLDER = "LICENSES"
_TAG = re.compile(rb"SPDX-License-Identifier:\s*([^\n*#]{1,200})")
_TAG_WITHIN_BYTES = 512
_SOURCES = (".c", ".h", ".S", ".dts", ".dtsi", ".sh", ".py", ".pl", ".rs")


def source_facts(
    folder: Path,
    *,
    name: str,
    version: str,
    architecture: str = "",
    origin: str = "",
    sha256: str = "",
    licence: str = "",
    tags: bool = False,
) -> Facts:
    """Returns the terms of a source.

    Args:
        folder: where it is unpacked.
        name: what it is called: ``linux``.
        version: of it, or of the Debian source package that it is.
        architecture: that it is compiled for.
        origin: the name of its archive, or its address.
        sha256: of the archive.
        licence: an SPDX expression, where the builder knows.
        tags: whether the SPDX tags of all its files are counted, which takes seconds for a kernel.

    Raises:
        NotFound: there is no such folder.
    """
    if not folder.is_dir():
        raise NotFound("no source there", where=folder)
    texts = {f"source/{name}/{path}": data for path, data in _texts(folder)}
    said, parts = licence or KNOWN.get(name, ""), tuple[Part, ...]()
    basis = Basis.DECLARED if said else Basis.UNKNOWN
    debian = texts.get(f"source/{name}/debian/copyright")
    if debian is not None:
        parts = copyright_parts(debian.decode(errors="replace"))
        if not said:
            read = read_copyright(debian.decode(errors="replace"))
            said, basis = read.licence, read.basis
    if not said:
        tagged = conjunction(_declared(texts))
        said = tagged or conjunction(one for data in texts.values() for one in recognise(_text(data)))
        basis = Basis.DECLARED if tagged else Basis.RECOGNISED if said else Basis.UNKNOWN
    if tags:
        parts = count_tags(folder)
    component = Component(
        kind="source",
        name=name,
        version=version,
        architecture=architecture,
        licence=said,
        basis=basis,
        parts=parts,
        source=name,
        source_version=version,
        origin=origin,
        sha256=sha256,
        texts=tuple(sorted(texts)),
    )
    return Facts(components=(component,), texts=texts)


def _texts(folder: Path) -> Iterator[tuple[str, bytes]]:
    try:
        names = [entry.name for entry in folder.iterdir() if _TEXT.match(entry.name) and entry.is_file()]
        below = (folder / _FOLDER).rglob("*") if (folder / _FOLDER).is_dir() else ()
        names += [str(path.relative_to(folder)) for path in below if path.is_file()]
        names += ["debian/copyright"] if (folder / "debian/copyright").is_file() else []
        for name in sorted(names)[:MAX_TEXTS]:
            path = folder / name
            if path.resolve().is_relative_to(folder.resolve()) and path.stat().st_size <= MAX_TEXT_BYTES:
                yield name, path.read_bytes()
    except OSError as error:
        raise map_os_error(error, "cannot read a source's licence", where=error.filename or folder) from error


def _declared(texts: Mapping[str, bytes]) -> list[str]:
    """Returns what files at the top declare; a file of LICENSES/ only tells what it is itself."""
    every = [data for name, data in texts.items() if f"/{_FOLDER}/" not in name]
    return [expression(_text(match).strip()) for data in every for match in _TAG.findall(data)]


def _text(data: bytes) -> str:
    return data.decode(errors="replace")


def count_tags(folder: Path) -> tuple[Part, ...]:
    """Returns how many files of a source have which SPDX tag, the most frequent first; "" for those with none."""
    counts: Counter[str] = Counter()
    seen = 0
    for top, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not os.path.islink(os.path.join(top, name))]
        for name in names:
            path = os.path.join(top, name)
            if not name.endswith(_SOURCES) or os.path.islink(path):
                continue
            seen += 1
            if seen > MAX_TAGGED_FILES:
                break
            with open(path, "rb") as file:
                match = _TAG.search(file.read(_TAG_WITHIN_BYTES))
            counts[match[1].decode(errors="replace").strip() if match else ""] += 1
    merged: Counter[str] = Counter()
    for text, count in counts.items():
        merged[expression(text)] += count
    return tuple(
        Part(licence=licence, count=count)
        for licence, count in sorted(merged.items(), key=lambda item: (-item[1], item[0]))
    )
