"""Addresses to listen at, as users write them."""

from __future__ import annotations

from wherry.core.errors import InvalidInput


def parse_listen(text: str) -> tuple[str, int]:
    """Returns host and port of ``127.0.0.1:8080``, ``[::1]:8080`` or ``:8080`` (all addresses).

    Raises:
        InvalidInput: it is none of these.
    """
    host, colon, port = text.rpartition(":")
    bare = host.removeprefix("[").removesuffix("]")
    if not colon or not port.isdigit() or int(port) > 65535 or (":" in bare and bare == host):
        raise InvalidInput(f"not an address to listen at: {text!r}", hint="write it as 127.0.0.1:8080 or [::1]:8080")
    return bare or "0.0.0.0", int(port)  # noqa: S104 asked for by leaving the host out
