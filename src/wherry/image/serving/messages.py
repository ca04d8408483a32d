"""Requests and answers of the registry endpoint, free of any server, and the errors in docker's and OCI's words.

Source: OCI distribution-spec 1.1, "Error Codes"; docker registry HTTP API V2, "Errors".
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import BinaryIO

from wherry.core import jsonio
from wherry.store.tree.compression import Readable


class Code(enum.StrEnum):
    """What went wrong, in the words of the specification."""

    BLOB_UNKNOWN = "BLOB_UNKNOWN"
    BLOB_UPLOAD_INVALID = "BLOB_UPLOAD_INVALID"
    BLOB_UPLOAD_UNKNOWN = "BLOB_UPLOAD_UNKNOWN"
    DENIED = "DENIED"
    DIGEST_INVALID = "DIGEST_INVALID"
    MANIFEST_BLOB_UNKNOWN = "MANIFEST_BLOB_UNKNOWN"
    MANIFEST_INVALID = "MANIFEST_INVALID"
    MANIFEST_UNKNOWN = "MANIFEST_UNKNOWN"
    NAME_INVALID = "NAME_INVALID"
    NAME_UNKNOWN = "NAME_UNKNOWN"
    PAGINATION_NUMBER_INVALID = "PAGINATION_NUMBER_INVALID"
    RANGE_INVALID = "RANGE_INVALID"
    SIZE_INVALID = "SIZE_INVALID"
    TAG_INVALID = "TAG_INVALID"
    TOOMANYREQUESTS = "TOOMANYREQUESTS"
    UNAUTHORIZED = "UNAUTHORIZED"
    UNAVAILABLE = "UNAVAILABLE"
    UNKNOWN = "UNKNOWN"
    UNSUPPORTED = "UNSUPPORTED"

    @property
    def status(self) -> int:
        """The HTTP status that goes with it, unless a case says another."""
        return _STATUS[self]


_STATUS = {
    Code.BLOB_UNKNOWN: 404,
    Code.BLOB_UPLOAD_INVALID: 416,
    Code.BLOB_UPLOAD_UNKNOWN: 404,
    Code.DENIED: 403,
    Code.DIGEST_INVALID: 400,
    Code.MANIFEST_BLOB_UNKNOWN: 404,
    Code.MANIFEST_INVALID: 400,
    Code.MANIFEST_UNKNOWN: 404,
    Code.NAME_INVALID: 400,
    Code.NAME_UNKNOWN: 404,
    Code.PAGINATION_NUMBER_INVALID: 400,
    Code.RANGE_INVALID: 416,
    Code.SIZE_INVALID: 413,
    Code.TAG_INVALID: 400,
    Code.TOOMANYREQUESTS: 429,
    Code.UNAUTHORIZED: 401,
    Code.UNAVAILABLE: 503,
    Code.UNKNOWN: 500,
    Code.UNSUPPORTED: 405,
}


class Refused(Exception):
    """A request that is not carried out.

    Args:
        code: why, for programs.
        message: why, for people.
        detail: what it is about.
        status: another status than the code's own.
        headers: more of the answer's.
    """

    def __init__(
        self,
        code: Code,
        message: str,
        *,
        detail: object = None,
        status: int | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.code, self.message, self.detail = code, message, detail
        self.status = code.status if status is None else status
        self.headers = dict(headers or {})

    def answer(self) -> Answer:
        """Returns it as an answer."""
        error = {"code": self.code.value, "message": self.message, "detail": self.detail}
        body = jsonio.compact({"errors": [error]})
        return Answer(status=self.status, headers={"Content-Type": "application/json", **self.headers}, body=body)


class Gone(Exception):
    """The client has gone, or is too slow: there is nobody to answer. Raised by a body that is read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stream:
    """A body that is not in memory."""

    size: int
    open: Callable[[], BinaryIO]
    """Gives the bytes, whole or those of the range that was asked for; at least `size` of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What is answered."""

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | Stream = b""

    @property
    def size(self) -> int:
        """The length of the body in bytes."""
        return self.body.size if isinstance(self.body, Stream) else len(self.body)


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What is asked."""

    method: str
    path: str
    """Percent-decoded."""
    query: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    """By names in lower case."""
    body: Readable | None = None
    address: str = ""
    """Where it comes from."""
    origin: str = ""
    """How the client calls the endpoint: ``http://host:5000``."""

    def read_body(self, max_bytes: int) -> bytes:
        """Returns a small body.

        Raises:
            Refused: it is longer than `max_bytes`.
        """
        parts: list[bytes] = []
        size = 0
        while self.body is not None and (data := self.body.read(max_bytes + 1 - size)):
            parts.append(data)
            size += len(data)
            if size > max_bytes:
                raise Refused(Code.SIZE_INVALID, f"the body is longer than {max_bytes} bytes")
        return b"".join(parts)
