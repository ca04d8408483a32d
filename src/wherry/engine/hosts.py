"""The three files of name resolution that the engine makes for a container: hosts, hostname, resolv.conf.

They lie below the run root and are bound over the image's. ``hosts`` is rewritten in place, never replaced, as a
bind mount holds the inode. Pure text here, but for ``write_in_place``.
"""

from __future__ import annotations

import os

from wherry.core.value import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

MAX_RESOLV_BYTES = 64 * 1024
_LOCAL = (
    "127.0.0.1\tlocalhost\n"
    "::1\tlocalhost ip6-localhost ip6-loopback\n"
    "fe00::\tip6-localnet\n"
    "ff02::1\tip6-allnodes\n"
    "ff02::2\tip6-allrouters\n"
)


class HostEntry(Value):
    """One address and the names that lead to it."""

    ip: str
    names: tuple[str, ...]


def hosts_file(own: Iterable[HostEntry], others: Iterable[HostEntry], further: Iterable[str] = ()) -> str:
    """Returns ``/etc/hosts``.

    Args:
        own: the container's own addresses and names.
        others: those of the containers that it may find.
        further: lines that were asked for (``--add-host``).
    """
    lines = [_LOCAL]
    for entry in (*own, *others):
        names = list(dict.fromkeys(name for name in entry.names if name))
        if names:
            lines.append(f"{entry.ip}\t{' '.join(names)}\n")
    lines += [f"{line}\n" for line in further]
    return "".join(lines)


def resolv_conf(text: str, *, upstream: str = "", own_network: bool = True) -> str:
    """Returns ``/etc/resolv.conf`` for a container from the host's.

    Args:
        text: the host's file.
        upstream: the file of the servers behind a local stub (systemd-resolved's), used when all servers of
            `text` are on the loopback and the container has a network of its own.
        own_network: whether the container has its own network, where the host's loopback is out of reach.
    """
    if not own_network:
        return text
    kept = _without_loopback(text)
    if not _servers(kept) and _servers(upstream):
        kept = _without_loopback(upstream)
    return kept


def with_options(text: str, *, servers: Iterable[str], search: Iterable[str], options: Iterable[str]) -> str:
    """Returns a ``resolv.conf`` with what was asked for in the place of what it says (``--dns`` ...).

    Args:
        text: the file.
        servers: addresses; none keeps the file's.
        search: domains; none keeps the file's, a single "." means none at all.
        options: none keeps the file's.
    """
    wanted = {"nameserver": list(servers), "search": list(search), "options": list(options)}
    lines = []
    for line in text.splitlines():
        fields = line.split()
        word = "search" if fields and fields[0] == "domain" else fields[0] if fields else ""
        if not wanted.get(word):
            lines.append(line)
    if wanted["search"] and wanted["search"] != ["."]:
        lines.append(f"search {' '.join(wanted['search'])}")
    lines += [f"nameserver {server}" for server in wanted["nameserver"]]
    if wanted["options"]:
        lines.append(f"options {' '.join(wanted['options'])}")
    return "\n".join(lines) + "\n" if lines else ""


def _servers(text: str) -> list[str]:
    return [fields[1] for line in text.splitlines() if len(fields := line.split()) > 1 and fields[0] == "nameserver"]


def _without_loopback(text: str) -> str:
    lines = []
    for line in text.splitlines():
        fields = line.split()
        if len(fields) > 1 and fields[0] == "nameserver" and (fields[1].startswith("127.") or fields[1] == "::1"):
            continue
        lines.append(line)
    return "\n".join(lines) + "\n" if lines else ""


def read_or_empty(path: str) -> str:
    """Returns the beginning of a text file, or "" when there is none."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read(MAX_RESOLV_BYTES)
    except OSError:
        return ""


def write_in_place(path: str, text: str) -> None:
    """Rewrites a file without giving it a new inode; short texts appear in one write."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
    try:
        data = text.encode()
        os.pwrite(fd, data, 0)
        os.ftruncate(fd, len(data))
        os.fchmod(fd, 0o644)
    finally:
        os.close(fd)
