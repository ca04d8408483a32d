"""What a start holds is let go once."""

from __future__ import annotations

import os
import socket
from typing import Any

from wherry.engine.ports import Reservation
from wherry.engine.prepare import Prepared
from wherry.engine.starting import Ready


def test_closing_leaves_nothing_that_closes_another_files_number() -> None:
    sockets = (socket.socket(),)
    number = sockets[0].fileno()
    nothing: Any = None
    prepared = Prepared(sources=nothing, network=nothing, joined=nothing, reservation=Reservation((), sockets))
    lock = os.open("/dev/null", os.O_RDONLY)
    ready = Ready(config=nothing, prepared=prepared, store="", lock_fd=lock)
    ready.close()
    null = os.open("/dev/null", os.O_RDONLY)
    os.dup2(null, number)
    del ready, prepared, sockets
    os.fstat(number)
    for fd in {null, number}:
        os.close(fd)
