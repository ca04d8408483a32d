"""``/repo``: the files of the archive repository, as any static web server would serve them, with a login.

Only names that an OSTree repository has are taken, each part is opened without following symbolic links, and the loop
never waits for the disk: pieces are read in the thread pool. Objects never change, so their name is their ETag.
Source: RFC 9110, sections 13 (conditional requests) and 14 (ranges).
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import AsyncIterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from email.utils import formatdate
from pathlib import Path

from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from wherry.hub.context import hub_of
from wherry.hub.security import repo_caller

CHUNK_BYTES = 256 * 1024
_TYPE = "application/octet-stream"
_PART = r"[A-Za-z0-9_][-._A-Za-z0-9]*"
_OBJECT = re.compile(r"objects/([0-9a-f]{2})/([0-9a-f]{62}\.(?:filez|dirtree|dirmeta|commit|commitmeta))\Z")
_OTHER = re.compile(
    rf"(?:config|summary|summary\.sig|refs/(?:heads|mirrors)/{_PART}(?:/{_PART})*"
    r"|deltas/[A-Za-z0-9+_]{2}/[A-Za-z0-9+_-]{1,90}/(?:superblock|meta|[0-9]{1,6})"
    r"|extensions/wherry/deltas/[0-9a-f]{64}-[0-9a-f]{64}\.wdelta"
    r"|delta-indexes/[A-Za-z0-9+_]{2}/[A-Za-z0-9+_]{1,60}\.index)\Z"
)
_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})\Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """The bytes to send: from `start`, `length` of them, of `total`."""

    start: int
    length: int
    total: int


def split_path(path: str) -> tuple[tuple[str, ...], str | None]:
    """Returns the parts of a path in the repository, and the strong ETag of an object.

    Raises:
        HTTPException: 404, no such file can be there.
    """
    found = _OBJECT.match(path)
    if found is None and _OTHER.match(path) is None:
        raise HTTPException(404, "no such file in the repository")
    parts = tuple(path.split("/"))
    if found is None or path.endswith(".commitmeta"):  # detached metadata may change under its name
        return parts, None
    return parts, f'"{found[1]}{found[2]}"'


def parse_range(value: str | None, total: int) -> Span | None:
    """Returns the one byte range that a header asks for; None when the whole is to be sent.

    Several ranges, other units and malformed values are ignored, as RFC 9110, section 14.2 allows.

    Raises:
        HTTPException: 416, it lies behind the end.
    """
    found = _RANGE.match(value.strip()) if value else None
    if found is None or found[1] == found[2] == "":
        return None
    if found[1] == "":
        start, end = max(0, total - int(found[2])), total - 1
        if int(found[2]) == 0:
            start = total
    else:
        start, end = int(found[1]), int(found[2]) if found[2] else total - 1
        if end < start and found[2]:
            return None
    if start >= total:
        raise HTTPException(416, f"the file has {total} bytes", headers={"Content-Range": f"bytes */{total}"})
    return Span(start=start, length=min(end, total - 1) - start + 1, total=total)


def open_beneath(root: Path, parts: tuple[str, ...]) -> int:
    """Opens a regular file below a folder, following no symbolic link on the way.

    Raises:
        HTTPException: 404, there is none.
    """
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    fd = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for index, part in enumerate(parts):
            kind = 0 if index == len(parts) - 1 else os.O_DIRECTORY
            below = os.open(part, flags | kind, dir_fd=fd)
            os.close(fd)
            fd = below
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise HTTPException(404, "no such file in the repository")
    except OSError as error:
        os.close(fd)
        raise HTTPException(404, "no such file in the repository") from error
    except BaseException:
        os.close(fd)
        raise
    return fd


async def serve_file(request: Request) -> Response:
    """Answers ``GET`` and ``HEAD`` below ``/repo``."""
    await repo_caller(request)
    return await run_in_threadpool(_answer, request)


def _answer(request: Request) -> Response:
    parts, tag = split_path(request.path_params["path"])
    fd = open_beneath(hub_of(request).repository.path, parts)
    with ExitStack() as stack:
        stack.callback(os.close, fd)
        found = os.fstat(fd)
        headers = {
            "Accept-Ranges": "bytes",
            "Cache-Control": "private, max-age=31536000, immutable" if tag else "no-cache",
            "ETag": tag or f'"{found.st_mtime_ns:x}-{found.st_size:x}-{found.st_ino:x}"',
        }
        if tag is None:
            headers["Last-Modified"] = formatdate(found.st_mtime, usegmt=True)
        if _matches(request.headers.get("if-none-match"), headers["ETag"]):
            return Response(status_code=304, headers=headers)
        condition = request.headers.get("if-range")
        wanted = request.headers.get("range") if condition in (None, headers["ETag"]) else None
        span = parse_range(wanted, found.st_size)
        status = 206 if span else 200
        if span is None:
            span = Span(start=0, length=found.st_size, total=found.st_size)
        else:
            headers["Content-Range"] = f"bytes {span.start}-{span.start + span.length - 1}/{span.total}"
        headers["Content-Length"] = str(span.length)
        if request.method == "HEAD" or span.length <= CHUNK_BYTES:
            # Nearly all objects are small: read here, in the thread that is ours already.
            data = os.pread(fd, span.length, span.start) if request.method == "GET" else b""
            return Response(data, status_code=status, headers=headers, media_type=_TYPE)
        response = _FileResponse(fd, span, status_code=status, headers=headers, media_type=_TYPE)
        stack.pop_all()  # it closes the file
        return response


class _FileResponse(StreamingResponse):
    """A part of an open file; closes it, also when the reader goes before the first byte."""

    def __init__(self, fd: int, span: Span, *, status_code: int, headers: Mapping[str, str], media_type: str) -> None:
        super().__init__(_pieces(fd, span), status_code=status_code, headers=headers, media_type=media_type)
        self._fd = fd

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            os.close(self._fd)


async def _pieces(fd: int, span: Span) -> AsyncIterator[bytes]:
    offset, left = span.start, span.length
    while left:
        piece = await run_in_threadpool(os.pread, fd, min(left, CHUNK_BYTES), offset)
        if not piece:  # cut short under our hands: the reader sees a broken transfer, never a short success
            raise OSError("a file of the repository became shorter while it was sent")
        offset += len(piece)
        left -= len(piece)
        yield piece


def _matches(header: str | None, tag: str) -> bool:
    if header is None:
        return False
    return header.strip() == "*" or tag in (part.strip().removeprefix("W/") for part in header.split(","))
