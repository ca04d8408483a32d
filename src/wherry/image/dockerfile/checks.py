"""What an instruction's words must be once their variables are replaced.

Source: Dockerfile reference, the section of each instruction; signal(7).
"""

from __future__ import annotations

import re
import signal

from wherry.image.dockerfile.modes import parse_chmod
from wherry.image.dockerfile.mounts import read_mount
from wherry.image.dockerfile.problems import Place
from wherry.image.dockerfile.sources import GitSource, PathSource, UrlSource, classify
from wherry.image.dockerfile.syntax import (
    Add,
    Copy,
    Env,
    Expose,
    Heredoc,
    Instruction,
    Label,
    Run,
    Stopsignal,
    User,
    Volume,
    Workdir,
)

MAX_PORT = 65535
MAX_PORTS = 65536
PROTOCOLS = ("tcp", "udp", "sctp")
_PORT = re.compile(r"(?:(?P<host>[0-9a-fA-F.:\[\]]*):)?(\d{1,5})(?:-(\d{1,5}))?(?:/([A-Za-z]+))?\Z", re.ASCII)
_SHA256 = re.compile(r"sha256:[0-9a-f]{64}\Z")
_COMMIT = re.compile(r"[0-9a-fA-F]{1,64}\Z")
_REAL_TIME = re.compile(r"(?:SIG)?RT(?:MIN(?:\+(\d{1,2}))?|MAX(?:-(\d{1,2}))?)\Z")
_MAX_SIGNAL = 64
_MAX_REAL_TIME = 30
"""SIGRTMIN is 34 with every C library in use, SIGRTMAX 64."""


def check(node: Instruction, place: Place) -> None:
    """Checks an instruction without variables.

    Raises:
        InvalidInput: a word is not what the instruction takes.
    """
    match node:
        case Run():
            for flag in node.mounts:
                read_mount(flag, place)
        case Copy() | Add():
            _paths(node, place)
        case Expose():
            expand_ports(node.ports, place)
        case Stopsignal():
            _signal(node.signal, place)
        case Env() | Label():
            for name, _ in node.pairs:
                if not name or (isinstance(node, Env) and "=" in name):
                    raise place.error(f"not a name: {name[:60]!r}", "is a variable in it empty?")
        case Volume():
            if not all(node.paths):
                raise place.error("VOLUME: a path is empty", "is a variable in it empty?")
        case User() | Workdir():
            if not (node.user if isinstance(node, User) else node.path):
                raise place.error("the argument is empty", "is a variable in it empty?")


def expand_ports(words: tuple[str, ...], place: Place) -> tuple[str, ...]:
    """Returns the ports of EXPOSE one by one, as ``80/tcp``.

    Raises:
        InvalidInput: a word is no port, or there are too many.
    """
    found: dict[str, None] = {}
    for word in words:
        match = _PORT.match(word)
        first, last = (int(match[2]), int(match[3] or match[2])) if match else (0, 0)
        protocol = ((match[4] if match else "") or "tcp").lower()
        if match is None or not 0 < first <= last <= MAX_PORT or protocol not in PROTOCOLS:
            raise place.error(f"not a port: {word[:40]!r}", "write it as 80, 53/udp or 8000-8010")
        found.update(dict.fromkeys(f"{port}/{protocol}" for port in range(first, last + 1)))
        if len(found) > MAX_PORTS:
            raise place.error(f"more than {MAX_PORTS} ports")
    return tuple(found)


def port_notes(words: tuple[str, ...]) -> list[tuple[str, str]]:
    """Returns the rules that words of EXPOSE break, each with what is wrong."""
    notes = []
    for word in words:
        match = _PORT.match(word)
        if match and match["host"] is not None:
            notes.append(("ExposeInvalidFormat", f"{word}: an address or a host port means nothing here"))
        if match and match[4] and match[4] != match[4].lower():
            notes.append(("ExposeProtoCasing", f"{word}: the protocol is lower case"))
    return notes


def _paths(node: Copy | Add, place: Place) -> None:
    keyword = type(node).__name__.upper()
    if not node.destination:
        raise place.error(f"{keyword}: the destination is empty", "is a variable in it empty?")
    if "\0" in node.destination:
        raise place.error(f"{keyword}: a NUL byte in the destination")
    if node.chmod:
        parse_chmod(node.chmod, place)
    for source in node.sources:
        if source == "" or (isinstance(source, str) and "\0" in source):
            raise place.error(f"{keyword}: a source is empty", "is a variable in it empty?")
    if isinstance(node, Add) and node.checksum:
        _checksum(node, place)
    is_directory = node.destination.endswith("/") or node.destination.rpartition("/")[2] in (".", "..")
    if len(node.sources) > 1 and not is_directory:
        raise place.error(
            f"{keyword}: several sources, and the destination is no directory: {node.destination[:80]!r}",
            f"write it as {node.destination[:80]}/",
        )


def _checksum(node: Add, place: Place) -> None:
    if len(node.sources) != 1:
        raise place.error("ADD: --checksum goes with one source", "write an instruction for each")
    (source,) = node.sources
    kind = None if isinstance(source, Heredoc) else classify(source, place)
    if kind is None or isinstance(kind, PathSource):
        raise place.error("ADD: --checksum goes with a URL or a Git repository, not with a file of the context")
    if isinstance(kind, UrlSource) and _SHA256.match(node.checksum) is None:
        raise place.error(f"ADD: not a checksum: {node.checksum[:80]!r}", "write it as sha256: and 64 hex digits")
    if isinstance(kind, GitSource) and _COMMIT.match(node.checksum) is None:
        raise place.error(f"ADD: not a commit: {node.checksum[:80]!r}", "write its hex digits, or the first of them")


def _signal(text: str, place: Place) -> None:
    name = text.upper()
    known = {item.name for item in signal.Signals}
    match = _REAL_TIME.match(name)
    if match is not None:
        if int(match[1] or match[2] or 0) <= _MAX_REAL_TIME:
            return
    elif text.isascii() and text.isdigit():
        if len(text) <= 2 and 0 < int(text) <= _MAX_SIGNAL:
            return
    elif name in known or f"SIG{name}" in known:
        return
    raise place.error(f"STOPSIGNAL: not a signal: {text[:40]!r}", "write it as SIGTERM or 15")
