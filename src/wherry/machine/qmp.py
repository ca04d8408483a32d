"""QEMU's machine protocol (QMP): telling a machine to stop, to reset, and to write its memory down.

One command at a time over a connected socket; events that come in between are kept. It speaks the plain commands that
Wherry needs and no others.

Source: QEMU 7.2, docs/interop/qmp-spec.txt and qapi/*.json.
"""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Sequence
from typing import Any

from wherry.core.errors import Timeout, ToolError, WherryError

MAX_LINE_BYTES = 1024 * 1024
DEFAULT_TIMEOUT_S = 30.0
_POLL_S = 0.05


class Qmp:
    """A connection to one machine.

    Args:
        connection: a connected socket, this object's from now on; `greet` comes first.
    """

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._buffer = b""
        self.events: list[dict[str, Any]] = []
        """What the machine told unasked, the oldest first."""

    def greet(self, timeout_s: float = DEFAULT_TIMEOUT_S) -> None:
        """Takes the machine's greeting and ends the negotiation.

        Raises:
            Timeout: it did not greet in time.
            ToolError: it is gone, or says something else.
        """
        greeting = self._read(time.monotonic() + timeout_s)
        if "QMP" not in greeting:
            raise ToolError(f"QEMU did not greet: {str(greeting)[:200]}")
        self.command("qmp_capabilities", timeout_s=timeout_s)

    def command(
        self,
        name: str,
        arguments: dict[str, Any] | None = None,
        *,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        fds: Sequence[int] = (),
    ) -> Any:
        """Gives a command and returns its answer.

        Args:
            name: as in QEMU's schema.
            arguments: its own.
            timeout_s: how long to wait for the answer.
            fds: descriptors that go with it (SCM_RIGHTS).

        Raises:
            ToolError: QEMU refuses, or is gone.
            Timeout: there was no answer.
        """
        message = {"execute": name} if arguments is None else {"execute": name, "arguments": arguments}
        data = json.dumps(message).encode() + b"\n"
        try:
            if fds:
                socket.send_fds(self._socket, [data], list(fds))
            else:
                self._socket.sendall(data)
        except OSError as error:
            raise ToolError("QEMU is gone", where=f"QMP {name}") from error
        end = time.monotonic() + timeout_s
        while True:
            answer = self._read(end, what=name)
            if "return" in answer:
                return answer["return"]
            if "error" in answer:
                problem = answer["error"]
                said = problem.get("desc") if isinstance(problem, dict) else problem
                raise ToolError(f"QEMU refuses: {said}", where=f"QMP {name}")
            self.events.append(answer)

    def wait_for(self, event: str, timeout_s: float = DEFAULT_TIMEOUT_S) -> dict[str, Any]:
        """Waits for an event, and returns it; those before it are kept.

        Raises:
            Timeout: it did not come.
            ToolError: QEMU is gone.
        """
        end = time.monotonic() + timeout_s
        while True:
            for index, found in enumerate(self.events):
                if found.get("event") == event:
                    return self.events.pop(index)
            self.events.append(self._read(end, what=event))

    def stop(self) -> None:
        """Halts its processors."""
        self.command("stop")

    def resume(self) -> None:
        """Has its processors go on."""
        self.command("cont")

    def reset(self) -> None:
        """Begins anew, as by its reset button."""
        self.command("system_reset")

    def press_power(self) -> None:
        """Asks the guest to shut down, as by its power button (ACPI)."""
        self.command("system_powerdown")

    def quit(self) -> None:
        """Ends QEMU at once."""
        try:
            self.command("quit", timeout_s=5)
        except WherryError:
            pass  # it may be gone before it answers; who called looks after the process

    def save(self, fd: int, timeout_s: float = 600) -> None:
        """Writes the halted machine's memory and devices to a file; its drives are not in it.

        Raises:
            ToolError: it could not be.
            Timeout: it took too long.
        """
        self.command("getfd", {"fdname": "memory"}, fds=(fd,))
        # no limit: the machine is halted, so nothing runs away
        self.command("migrate-set-parameters", {"max-bandwidth": 1 << 40})
        self.command("migrate", {"uri": "fd:memory"})
        end = time.monotonic() + timeout_s
        while True:
            state = self.command("query-migrate").get("status")
            if state == "completed":
                return
            if state in ("failed", "cancelled"):
                raise ToolError(f"QEMU could not write the machine's memory: {state}")
            if time.monotonic() > end:
                raise Timeout(f"the machine's memory was not written in {timeout_s:g} s")
            time.sleep(_POLL_S)

    def close(self) -> None:
        """Closes the connection; the machine runs on."""
        self._socket.close()

    def _read(self, end_s: float, *, what: str = "greeting") -> dict[str, Any]:
        while b"\n" not in self._buffer:
            self._socket.settimeout(max(0.001, end_s - time.monotonic()))
            try:
                data = self._socket.recv(65536)
            except TimeoutError as error:
                raise Timeout("no answer from QEMU", where=f"QMP {what}") from error
            except OSError as error:
                raise ToolError("QEMU is gone", where=f"QMP {what}") from error
            if not data:
                raise ToolError("QEMU is gone", where=f"QMP {what}")
            self._buffer += data
            if len(self._buffer) > MAX_LINE_BYTES:
                raise ToolError("QEMU says too much in one line", where=f"QMP {what}")
        line, _, self._buffer = self._buffer.partition(b"\n")
        try:
            found = json.loads(line)
        except ValueError as error:
            raise ToolError("QEMU says what is no JSON", where=f"QMP {what}") from error
        if not isinstance(found, dict):
            raise ToolError("QEMU says what is no object", where=f"QMP {what}")
        return found
