"""Consoles: what comes is looked through in pieces, and keys are told from what is typed."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from wherry.core.errors import Timeout, ToolError
from wherry.machine import console
from wherry.machine.session import Keys


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, console.Console]]:
    guest, ours = socket.socketpair()
    with guest, ours:
        yield guest, console.Console(ours)


def test_a_text_is_found_across_pieces_and_colours(ends: tuple[socket.socket, console.Console]) -> None:
    guest, found = ends
    guest.sendall(b"boot\r\n\x1b[1;32mlog\x1b[0")
    guest.sendall(b"min: \xc3")
    assert found.read(1)
    guest.sendall(b"\xa4\x1b[0mpassword: ")
    assert found.wait_for("login:", idle_s=2).startswith("boot\nlog")
    with pytest.raises(Timeout, match="did not come"):
        found.wait_for("login:", idle_s=0.1)  # it was found once already


def test_the_end_of_the_machine_is_told(ends: tuple[socket.socket, console.Console]) -> None:
    guest, found = ends
    guest.sendall(b"Kernel panic\n")
    guest.close()
    with pytest.raises(ToolError, match="Kernel panic"):
        found.wait_for("login:", idle_s=5)


def test_only_the_end_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(console, "MAX_KEPT_CHARS", 10)
    text = console.Text()
    for _ in range(100):
        text.feed(b"0123456789abc")
    assert (len(text.kept), text.kept[-3:], text.dropped) == (10, "abc", 1290)


def test_what_is_no_text_does_no_harm() -> None:
    text = console.Text()
    for piece in (b"\xff\xfe", b"\x1b", b"[" * 300, b"\x1b]0;title\x07ok", bytes(range(256))):
        text.feed(piece)
    assert "ok" in text.kept


def test_escape_keys() -> None:
    keys = Keys()
    assert keys.feed(b"ls\x01") == (b"ls", b"")
    assert keys.feed(b"xmore") == (b"more", b"x")
    assert keys.feed(b"\x01\x01\x01H\x01q") == (b"\x01", b"h")


def test_a_panic_is_told_by_what_came_before_its_registers() -> None:
    panic = "Kernel panic - not syncing: Attempted to kill init! exitcode=0x00007f00"
    said = f"one\n/init: line 5: mount: not found\n{panic}\nCPU: 0 PID: 1\nCall Trace:\n" + " [<60046f88>] ?\n" * 20
    assert console.tail_of(said, 2) == f"/init: line 5: mount: not found | {panic}"
    assert console.tail_of("a\nb\nc\n", 2) == "b | c"
