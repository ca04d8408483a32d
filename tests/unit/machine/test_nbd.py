"""The NBD server with a write cache, spoken to as QEMU does, and with nonsense."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from wherry.machine.nbd import Server
from wherry.machine.writecache import Cut

SIZE = 1 << 20
READ, WRITE, FLUSH, TRIM, ZEROES = 0, 1, 3, 4, 6


class Client:
    """The machine's side."""

    def __init__(self, path: Path) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(10)
        self.socket.connect(str(path))
        assert self.take(16) == b"NBDMAGICIHAVEOPT"
        assert struct.unpack(">H", self.take(2))[0] & 1
        self.socket.sendall(struct.pack(">I", 3))

    def take(self, length: int) -> bytes:
        data = b""
        while len(data) < length:
            piece = self.socket.recv(length - len(data))
            if not piece:
                raise EOFError
            data += piece
        return data

    def option(self, number: int, data: bytes = b"") -> list[int]:
        """Sends an option and returns the kinds of its replies."""
        self.socket.sendall(b"IHAVEOPT" + struct.pack(">II", number, len(data)) + data)
        kinds: list[int] = []
        while not kinds or kinds[-1] == 3:
            _, _, kind, length = struct.unpack(">QIII", self.take(20))
            self.take(length)
            kinds.append(kind)
        return kinds

    def request(self, kind: int, offset: int, length: int, data: bytes = b"", flags: int = 0) -> tuple[int, bytes]:
        self.socket.sendall(struct.pack(">IHHQQI", 0x25609513, flags, kind, 7, offset, length) + data)
        magic, error, handle = struct.unpack(">IIQ", self.take(16))
        assert (magic, handle) == (0x67446698, 7)
        return error, self.take(length) if kind == READ and not error else b""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    (tmp_path / "disk").write_bytes(bytes(SIZE))
    made = Server(tmp_path / "disk", tmp_path / "sock")
    made.start()
    yield made
    made.close()


def test_a_disk(server: Server, tmp_path: Path) -> None:
    client = Client(server.path)
    assert client.option(8) == [0x80000001]  # structured replies: not there
    assert client.option(7, struct.pack(">IH", 0, 0)) == [3, 3, 1]
    assert client.request(WRITE, 512, 5, b"hello") == (0, b"")
    assert client.request(READ, 510, 9) == (0, b"\0\0hello\0\0")
    assert (tmp_path / "disk").read_bytes() == bytes(SIZE)
    assert client.request(FLUSH, 0, 0) == (0, b"")
    assert (tmp_path / "disk").read_bytes()[512:517] == b"hello"
    assert client.request(ZEROES, 512, 3) == (0, b"")
    assert client.request(READ, 512, 5) == (0, b"\0\0\0lo")
    assert client.request(WRITE, 0, 2, b"in", flags=1) == (0, b"")
    assert (tmp_path / "disk").read_bytes()[:2] == b"in"
    assert client.request(TRIM, 0, 512) == (0, b"")
    assert client.request(READ, SIZE, 1)[0] == 22
    assert client.request(9, 0, 0)[0] == 22
    left = server.cut(Cut.DROP, 0)
    assert (left.unflushed, left.kept) == (1, 0)
    assert (tmp_path / "disk").read_bytes()[512:517] == b"hello"
    with pytest.raises((EOFError, ConnectionError)):
        client.request(READ, 0, 1)


def test_nonsense_ends_the_connection_and_no_more(server: Server) -> None:
    first = Client(server.path)
    first.socket.sendall(b"GET / HTTP/1.1\r\n\r\n")
    with pytest.raises((EOFError, ConnectionError)):
        first.take(1)
    second = Client(server.path)
    assert second.option(7, struct.pack(">IH", 0, 0))[-1] == 1
    second.socket.sendall(struct.pack(">IHHQQI", 0x25609513, 0, WRITE, 1, 0, 0xFFFFFFFF))
    with pytest.raises((EOFError, ConnectionError)):
        second.take(1)
    third = Client(server.path)
    assert third.option(2) == [1]
