"""``state.json``: the state machine's state on disk, the one point of truth of a device.

It is replaced whole, durably, before the work of the next phase begins; whatever else lies in the folder is
either named by it or rubbish. Ids in it become names of folders, so they are checked when it is read. On a full
disk the ballast beside it is given up, so that at least the state can say what happened. Format version 1.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from wherry.core import durable, jsonio
from wherry.core.digest import parse_checksum
from wherry.core.errors import InvalidInput, NoSpace, Unsupported
from wherry.device.machine import State
from wherry.device.paths import DevicePaths
from wherry.device.points import Point, reach
from wherry.spec.codec import decode, encode
from wherry.spec.wire import FINAL_STATES, UpdateState

FORMAT = 1
MAX_STATE_BYTES = 64 * 1024
BALLAST_BYTES = 256 * 1024
_WAITING_PHASES = (frozenset(UpdateState) - FINAL_STATES - {UpdateState.IDLE}) | {UpdateState.FAILED}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Document:
    format: int
    state: State


def load_state(path: Path) -> State:
    """Returns the state in `path`; the empty state when there is none yet.

    Raises:
        InvalidInput: it is malformed.
        Unsupported: it is of a newer format.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return State()
    except OSError as error:
        raise durable.map_os_error(error, "cannot read the device's state", where=path) from error
    value = jsonio.loads(data, where=path, max_bytes=MAX_STATE_BYTES)
    if isinstance(value, dict) and isinstance(value.get("format"), int) and value["format"] > FORMAT:
        raise Unsupported(
            f"device state format {value['format']} is newer than {FORMAT}", where=path, hint="update Wherry first"
        )
    state = decode(_Document, value, where=path).state
    _check(state, path)
    return state


class StateFile:
    """The state and its file; for the one who holds the device's lock."""

    def __init__(self, paths: DevicePaths) -> None:
        self._path = paths.state
        self._ballast = paths.ballast
        self.state = load_state(self._path)

    def write(self, state: State) -> None:
        """Makes `state` the device's state, durably.

        Raises:
            NoSpace: the disk is full, also without the ballast; the old state stands.
        """
        data = jsonio.canonical(encode(_Document(format=FORMAT, state=state)))
        reach(Point.STATE_BEFORE)
        try:
            durable.write_file(self._path, data, mode=0o600)
        except NoSpace:
            durable.remove_file(self._ballast)
            durable.write_file(self._path, data, mode=0o600)
        self.state = state
        reach(Point.STATE_AFTER)

    def restock(self) -> None:
        """Puts the ballast back, if there is room for it."""
        if self._ballast.exists():
            return
        try:
            with durable.replacing(self._ballast, mode=0o600) as file:
                os.posix_fallocate(file.fileno(), 0, BALLAST_BYTES)
        except (NoSpace, OSError):
            return


def _check(state: State, path: Path) -> None:
    for name, checksum in (("current", state.current), ("last_good", state.last_good)):
        if checksum is not None:
            parse_checksum(checksum, where=f"{path}: {name}")
    if state.candidate is not None:
        parse_checksum(state.candidate.order.revision, where=f"{path}: candidate")
        if state.candidate.phase not in _WAITING_PHASES:
            raise InvalidInput(f"a candidate cannot be {state.candidate.phase.value}", where=path)
    if state.outcome is not None:
        parse_checksum(state.outcome.order.revision, where=f"{path}: outcome")
        if state.outcome.state not in FINAL_STATES:
            raise InvalidInput(f"an outcome cannot be {state.outcome.state.value}", where=path)
