"""A delta on a server: any that serves ranges of files. A link that breaks is taken up again where it broke."""

from __future__ import annotations

from collections.abc import Iterator

from wherry.core.errors import HttpError, NetworkError, NotFound
from wherry.core.http import HttpClient, backoff
from wherry.core.trace import reach

MAX_TRIES = 6
"""In a row, without a byte between them."""
_PASSING_STATUS = frozenset({408, 425, 429, 500, 502, 503, 504})


class HttpOrigin:
    """A delta on a server.

    Args:
        client: the server.
        path: of the delta on it.
    """

    def __init__(self, client: HttpClient, path: str) -> None:
        self._client = client
        self._path = path

    def read_from(self, offset: int) -> Iterator[bytes]:
        """Gives the delta's bytes from `offset` to its end.

        Raises:
            NotFound: the server does not have it (any more).
            NetworkError: it broke too often, or the server says no.
            IntegrityError: the server has no ranges.
        """
        failures = 0
        while True:
            try:
                with self._client.get(self._path, offset=offset) as response:
                    for piece in response.chunks():
                        failures = 0
                        offset += len(piece)
                        yield piece
                return
            except HttpError as error:
                if error.status == 404:
                    raise NotFound("the server has no such delta", where=self._path) from error
                if error.status not in _PASSING_STATUS:
                    raise
                cause: NetworkError = error
            except NetworkError as error:
                cause = error
            failures += 1
            if failures >= MAX_TRIES:
                raise cause
            reach("store.device-delta.again")
            backoff(failures)
