"""Trees, headers and programs for tests of the finders."""

from __future__ import annotations

import sqlite3
import struct
from pathlib import Path

from wherry.core.digest import Checksum
from wherry.image.sbom.describe import describe
from wherry.image.sbom.model import Component, Inventory
from wherry.store.format.objects import Mode
from wherry.store.repository import Repository

Files = dict[str, bytes | str]


def put(root: Path, files: Files) -> Path:
    """Writes files below a folder; a text that begins with ``-> `` is a symbolic link, one in ``bin/`` executable."""
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, str) and content.startswith("-> "):
            path.symlink_to(content[3:])
            continue
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        path.chmod(0o755 if "/bin/" in f"/{name}" else 0o644)
    return root


def committed(tmp_path: Path, files: Files, mode: Mode = Mode.BARE_USER) -> tuple[Repository, Checksum]:
    root = put(tmp_path / "root", files)
    root.mkdir(exist_ok=True)
    repo = Repository.init(tmp_path / "repo", mode)
    return repo, repo.commit(root, timestamp_s=1_700_000_000)


def described(tmp_path: Path, files: Files, mode: Mode = Mode.BARE_USER) -> Inventory:
    return describe(*committed(tmp_path, files, mode))


def by_name(inventory: Inventory) -> dict[str, Component]:
    return {component.name: component for component in inventory.components}


def warnings(inventory: Inventory) -> str:
    return "\n".join(f"{item.where}: {item.what}" for item in inventory.warnings)


def rpm_header(values: dict[int, str | list[str] | list[int]]) -> bytes:
    entries, data = b"", b""
    for tag, value in sorted(values.items()):
        if isinstance(value, str):
            entries += struct.pack(">IIII", tag, 6, len(data), 1)
            data += value.encode() + b"\0"
        elif value and isinstance(value[0], int):
            data += bytes(-len(data) % 4)
            entries += struct.pack(">IIII", tag, 4, len(data), len(value))
            data += struct.pack(f">{len(value)}I", *value)
        else:
            entries += struct.pack(">IIII", tag, 8, len(data), len(value))
            data += b"".join(str(item).encode() + b"\0" for item in value)
    return struct.pack(">II", len(values), len(data)) + entries + data


def rpm_database(path: Path, blobs: list[bytes]) -> bytes:
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE Packages (hnum INTEGER PRIMARY KEY AUTOINCREMENT, blob BLOB NOT NULL)")
    connection.executemany("INSERT INTO Packages (blob) VALUES (?)", [(blob,) for blob in blobs])
    connection.commit()
    connection.close()
    return path.read_bytes()


def elf(sections: dict[str, bytes], *, wide: bool = True, order: str = "<") -> bytes:
    """Returns an ELF file with nothing but sections."""
    head_size = 64 if wide else 52
    names = b"\0"
    placed = []
    body = b""
    for name, content in sections.items():
        placed.append((len(names), head_size + len(body), len(content)))
        names += name.encode() + b"\0"
        body += content
    placed.append((len(names), head_size + len(body), len(names) + len(".shstrtab") + 1))
    names += b".shstrtab\0"
    body += names
    table = head_size + len(body)
    layout = f"{order}IIQQQQIIQQ" if wide else f"{order}10I"
    rows = [struct.pack(layout, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)]
    rows += [struct.pack(layout, name, 1, 0, 0, at, size, 0, 0, 0, 0) for name, at, size in placed]
    ident = b"\x7fELF" + bytes([2 if wide else 1, 1 if order == "<" else 2, 1]) + bytes(9)
    word = "Q" if wide else "I"
    head = struct.pack(
        f"{order}HHI{word}{word}{word}IHHHHHH",
        2, 62, 1, 0, 0, table, 0, head_size, 0, 0, struct.calcsize(layout), len(rows), len(rows) - 1,
    )  # fmt: skip
    return ident + head + body + b"".join(rows)


def varint(size: int) -> bytes:
    out = b""
    while size >= 0x80:
        out += bytes([size & 0x7F | 0x80])
        size >>= 7
    return out + bytes([size])


def go_buildinfo(version: str, modules: str, *, flags: int = 2) -> bytes:
    info = b"0" * 16 + modules.encode() + b"1" * 16
    head = b"\xff Go buildinf:" + bytes([8, flags]) + bytes(16)
    return head + varint(len(version)) + version.encode() + varint(len(info)) + info
