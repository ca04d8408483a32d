"""A running machine as an image: ``ssh://[USER@]HOST[:PORT][/DIR]``, its files as a tar archive through OpenSSH.

The system's own client is started with an argument list. What the user's ``ssh_config`` says holds; host keys are
checked as always, and there is no way here to have them not be. On the other machine runs one ``sh`` command that
needs ``tar`` and nothing else: GNU tar says all of a file (attributes, holes, one file system); another tar, such as
BusyBox', less, which is told.

Refused: user and host names that ssh would take for an option. Not kept: what is in ``/proc``, ``/sys``, ``/dev``,
``/run`` and ``/tmp``, and what other file systems hold that are mounted there.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO

from wherry.core.errors import InvalidInput, NetworkError, NotFound, NotPermitted, ToolError, WherryError

if TYPE_CHECKING:
    from wherry.core.streaming import Finished

SCHEME = "ssh://"
_URL = re.compile(
    r"ssh://(?:(?P<user>[^@/]*)@)?(?P<host>\[[0-9A-Fa-f:.]+(?:%[A-Za-z0-9]+)?\]|[^:/@\[\]]*)(?::(?P<port>\d{1,5}))?"
    r"(?P<path>/.*)?\Z",
    re.DOTALL,
)
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*\Z")
EMPTIED = ("proc", "sys", "dev", "run", "tmp")
_SSH_FAILED = 255
_TAR_CHANGED = 1
"""GNU tar: "Some files differ"; a file was changed while it was read."""
_NOT_GNU = "wherry: not GNU tar"
_SAID_CHARS = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """A machine that is reached by ssh."""

    host: str
    user: str = ""
    port: int = 0
    """0: as ssh's config says."""
    path: str = "/"
    options: tuple[str, ...] = ()
    """Of ``ssh -o``."""
    sudo: bool = False
    """Whether tar is run by ``sudo -n``."""
    ask: bool = True
    """Whether ssh may ask for a password, or for a new host key, at the terminal."""

    @classmethod
    def parse(cls, url: str) -> Machine:
        """Reads ``ssh://[USER@]HOST[:PORT][/DIR]``.

        Raises:
            InvalidInput: it is none.
        """
        match = _URL.match(url)
        hint = "write it as ssh://[USER@]HOST[:PORT][/DIR]"
        if match is None or "\0" in url:
            raise InvalidInput(f"not the address of a machine: {url[:200]!r}", hint=hint)
        user, host, port = match["user"], match["host"], int(match["port"] or 0)
        if (user is not None and _NAME.match(user) is None) or (host[:1] != "[" and _NAME.match(host) is None):
            raise InvalidInput(f"not the address of a machine: {url[:200]!r}", hint=hint)
        if port > 65535:
            raise InvalidInput(f"not a port: {port}", where=url[:200])
        return cls(host=host.strip("[]"), user=user or "", port=port, path=match["path"] or "/")

    def command(self) -> list[str]:
        """Returns what is run here."""
        args = ["ssh", "-T", "-o", f"BatchMode={'no' if self.ask else 'yes'}"]
        for option in self.options:
            args += ["-o", option]
        if self.port:
            args += ["-p", str(self.port)]
        if self.user:
            args += ["-l", self.user]
        return [*args, "--", self.host, self.remote_command()]

    def remote_command(self) -> str:
        """Returns what the other machine's shell is given."""
        skipped = [f"--exclude=./{name}/*" for name in EMPTIED]
        sudo = ["sudo", "-n"] if self.sudo else []
        gnu = [
            *sudo, "tar", "--create", "--file=-", "--one-file-system", "--numeric-owner", "--sparse", "--xattrs",
            "--xattrs-include=*", "--warning=no-file-changed", "--warning=no-file-removed", "--anchored", *skipped, ".",
        ]  # fmt: skip
        # a small tar has no --exclude: it is given the names at the top
        plain = (
            "set --; for f in .[!.]* ..?* *; do "
            f'case "$f" in {"|".join(EMPTIED)}) continue;; esac; '
            '{ [ -e "$f" ] || [ -L "$f" ]; } && set -- "$@" "./$f"; done; '
            f'exec {shlex.join([*sudo, "tar", "-cf", "-"])} "$@"'
        )
        script = (
            f"cd {shlex.quote(self.path)} || exit 3; "
            f"if tar --version 2>/dev/null | grep -q GNU; then exec {shlex.join(gnu)}; fi; "
            f"echo {shlex.quote(_NOT_GNU)} >&2; {plain}"
        )
        return f"exec sh -c {shlex.quote(script)}"

    def check(self, finished: Finished, note: Callable[[str], None]) -> None:
        """Says whether all came.

        Raises:
            NetworkError: the machine could not be reached, or the connection broke.
            NotFound: there is no such directory.
            NotPermitted: some files may not be read.
            ToolError: tar failed.
        """
        said, gnu = finished.said, _NOT_GNU not in finished.said
        if not gnu:
            said = said.replace(_NOT_GNU, "").strip()
            note("the machine has no GNU tar: extended attributes are not kept, and what is mounted there comes along")
        if finished.status == 0:
            return
        if finished.status == _TAR_CHANGED and gnu:
            note("files were changed while they were read")
            return
        where = f"{self.user}@{self.host}" if self.user else self.host
        text = " | ".join(said[-_SAID_CHARS:].splitlines())
        if finished.status == _SSH_FAILED:
            hint = "`ssh` with the same address must work, and know the host's key"
            raise NetworkError(f"ssh: {text or 'no message'}", where=where, hint=hint)
        if finished.status == 3 and "tar" not in said:
            raise NotFound(f"no such directory on the machine: {self.path}", where=where)
        if "Permission denied" in said or "sudo:" in said:
            raise NotPermitted(f"not all files may be read: {text}", where=where, hint="log in as root, or give --sudo")
        raise ToolError(f"tar on the machine: exit status {finished.status}: {text or 'no message'}", where=where)


class StreamBlobs:
    """One stream, as a blob that can be read once."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream

    def open(self, name: str, /) -> BinaryIO:
        """Returns the stream."""
        return self._stream

    def size(self, name: str, /) -> int:
        """Returns 0: how long it is shows at its end."""
        return 0

    def has(self, name: str, /) -> bool:
        """Tells whether it is there; it is."""
        return True


@contextmanager
def files_of(machine: Machine, note: Callable[[str], None]) -> Iterator[BinaryIO]:
    """Gives a machine's files as a tar archive; at the end of the block all of it must have come.

    Raises:
        WherryError: as `Machine.check`, whose reason is better than that of whoever read an archive that broke off.
        Unsupported: there is no ssh here.
    """
    from wherry.core.streaming import streamed

    with streamed(machine.command(), hint="ssh is in the package openssh-client") as running:
        try:
            yield running.output
        except WherryError:
            machine.check(running.finish(), lambda text: None)
            raise
        machine.check(running.finish(), note)


def parse_options(options: Sequence[str]) -> tuple[str, ...]:
    """Checks options of ``ssh -o``.

    Raises:
        InvalidInput: one would have host keys not be checked, or is none.
    """
    for option in options:
        key, _, value = option.replace(" ", "=", 1).partition("=")
        if not key.isalnum() or not value:
            raise InvalidInput(f"--ssh-option: not KEY=VALUE: {option[:100]!r}")
        if key.lower() == "stricthostkeychecking" and value.strip(" =\"'").lower() in ("no", "off"):
            raise InvalidInput("--ssh-option: host keys are always checked", hint="`ssh-keyscan` shows a host's keys")
    return tuple(options)
