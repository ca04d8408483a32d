"""Binary packages as files: their control file, read without unpacking anything.

Source: deb(5); ar(5), the common form.
"""

from __future__ import annotations

import io
import lzma
import tarfile
import zlib
from typing import TYPE_CHECKING

from wherry.core.durable import map_os_error
from wherry.core.errors import InvalidInput

if TYPE_CHECKING:
    from pathlib import Path

MAX_CONTROL_BYTES = 16 * 1024 * 1024
_MAGIC = b"!<arch>\n"
_HEADER_BYTES = 60
_MEMBERS = 4
"""The control archive is the second member; a few more may stand before it in odd packages."""


def control_of(path: Path) -> str:
    """Returns the control file of a package, without the newline at its end.

    Raises:
        InvalidInput: it is no package.
    """
    try:
        with open(path, "rb") as file:
            if file.read(len(_MAGIC)) != _MAGIC:
                raise InvalidInput("not a Debian package", where=path)
            for _ in range(_MEMBERS):
                header = file.read(_HEADER_BYTES)
                name = header[:16].rstrip().rstrip(b"/").decode(errors="replace")
                digits = header[48:58].strip()
                if len(header) < _HEADER_BYTES or not digits.isdigit():
                    break
                size = int(digits)
                if name.startswith("control.tar"):
                    if size > MAX_CONTROL_BYTES:
                        raise InvalidInput(f"a control archive of more than {MAX_CONTROL_BYTES} bytes", where=path)
                    return _control(_plain(name, file.read(size), path), path)
                file.seek(size + size % 2, io.SEEK_CUR)
    except OSError as error:
        raise map_os_error(error, "cannot read a package", where=path) from error
    raise InvalidInput("a Debian package without a control archive", where=path)


def _plain(name: str, data: bytes, path: Path) -> bytes:
    try:
        if name.endswith(".xz"):
            return lzma.LZMADecompressor().decompress(data, MAX_CONTROL_BYTES)
        if name.endswith(".gz"):
            return zlib.decompressobj(31).decompress(data, MAX_CONTROL_BYTES)
    except (lzma.LZMAError, zlib.error) as error:
        raise InvalidInput(f"{name} is damaged", where=path) from error
    if name.endswith(".zst"):
        import zstandard

        try:
            return zstandard.ZstdDecompressor().stream_reader(data).read(MAX_CONTROL_BYTES)
        except zstandard.ZstdError as error:
            raise InvalidInput(f"{name} is damaged", where=path) from error
    return data


def _control(data: bytes, path: Path) -> str:
    try:
        with tarfile.open(fileobj=io.BytesIO(data)) as archive:
            for name in ("./control", "control"):
                try:
                    file = archive.extractfile(name)
                except KeyError:
                    continue
                if file is not None:
                    return file.read(MAX_CONTROL_BYTES).decode(errors="replace").rstrip("\n")
    except tarfile.TarError as error:
        raise InvalidInput("a damaged control archive", where=path) from error
    raise InvalidInput("a Debian package without a control file", where=path)
