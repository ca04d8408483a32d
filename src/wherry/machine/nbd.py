"""A disk for one machine over a network block device (NBD) on a UNIX socket, with a write cache that can lose power.

It serves what QEMU asks for: the fixed newstyle handshake without structured replies, then read, write, flush, FUA,
trim and write-zeroes, one request after the other. All numbers from the other side are bounded before they are used.

Source: the NBD protocol, doc/proto.md of the reference implementation.
"""

from __future__ import annotations

import os
import socket
import struct
import threading
from pathlib import Path

from wherry.core.durable import map_os_error
from wherry.core.errors import InvalidInput
from wherry.machine.writecache import Cut, Left, WriteCache

MAX_REQUEST_BYTES = 64 * 1024 * 1024
MAX_OPTION_BYTES = 4096
_MAGIC, _OPTION_MAGIC, _REPLY_MAGIC = b"NBDMAGIC", b"IHAVEOPT", 0x3E889045565A9
_FIXED_NEWSTYLE, _NO_ZEROES = 1, 2
_OPT_EXPORT_NAME, _OPT_ABORT, _OPT_INFO, _OPT_GO = 1, 2, 6, 7
_REP_ACK, _REP_INFO, _REP_UNSUPPORTED = 1, 3, 0x80000001
_INFO_EXPORT, _INFO_BLOCK_SIZE = 0, 3
_HAS_FLAGS, _SEND_FLUSH, _SEND_FUA, _SEND_TRIM, _SEND_WRITE_ZEROES = 1, 4, 8, 32, 64
_TRANSMISSION = _HAS_FLAGS | _SEND_FLUSH | _SEND_FUA | _SEND_TRIM | _SEND_WRITE_ZEROES
_REQUEST = struct.Struct(">IHHQQI")
_REQUEST_MAGIC, _SIMPLE_REPLY_MAGIC = 0x25609513, 0x67446698
_READ, _WRITE, _DISCONNECT, _FLUSH, _TRIM, _WRITE_ZEROES = 0, 1, 2, 3, 4, 6
_FUA = 1
_EINVAL, _EIO = 22, 5


class Server:
    """Serves one image to one machine, from a thread of its own.

    Args:
        image: the file; written to.
        path: of the socket, which is made.
    """

    def __init__(self, image: Path, path: Path) -> None:
        try:
            self._fd = os.open(image, os.O_RDWR | os.O_CLOEXEC)
        except OSError as error:
            raise map_os_error(error, "cannot open the drive", where=image) from error
        self._size = os.lseek(self._fd, 0, os.SEEK_END)
        self.cache = WriteCache(self._fd)
        self.path = path
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(str(path))
        self._listener.listen(1)
        self._lock = threading.Lock()
        self._off = False
        self._connection: socket.socket | None = None
        self._thread = threading.Thread(target=self._serve, name="nbd", daemon=True)

    def start(self) -> None:
        """Begins to serve; the machine may be started before."""
        self._thread.start()

    def cut(self, mode: Cut, seed: int) -> Left:
        """Loses the power: from now on no request is answered; `WriteCache.cut` says what is left."""
        with self._lock:
            self._off = True
            return self.cache.cut(mode, seed)

    def close(self) -> None:
        """Ends it; what was not flushed is written, as when a machine is switched off in order."""
        with self._lock:
            if not self._off:
                self._off = True
                self.cache.flush()
        for end in (self._connection, self._listener):
            if end is not None:
                try:
                    end.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass  # it was never connected, or is gone
                end.close()
        if self._thread.ident is not None:
            self._thread.join()
        os.close(self._fd)

    def _serve(self) -> None:
        try:
            while not self._off:
                connection, _ = self._listener.accept()
                self._connection = connection
                with connection:
                    try:
                        if self._negotiate(connection):
                            while self._answer(connection):
                                pass
                    except (EOFError, InvalidInput):
                        pass  # the machine is gone, or talks nonsense: there is nobody to tell
        except OSError:
            pass  # closed by `close`

    def _negotiate(self, connection: socket.socket) -> bool:
        connection.sendall(_MAGIC + _OPTION_MAGIC + struct.pack(">H", _FIXED_NEWSTYLE | _NO_ZEROES))
        (flags,) = struct.unpack(">I", _exactly(connection, 4))
        while True:
            magic, option, length = struct.unpack(">8sII", _exactly(connection, 16))
            if magic != _OPTION_MAGIC or length > MAX_OPTION_BYTES:
                raise InvalidInput("not an option of NBD")
            _exactly(connection, length)
            if option == _OPT_EXPORT_NAME:
                connection.sendall(struct.pack(">QH", self._size, _TRANSMISSION))
                if not flags & _NO_ZEROES:
                    connection.sendall(bytes(124))
                return True
            if option in (_OPT_GO, _OPT_INFO):
                info = struct.pack(">HQH", _INFO_EXPORT, self._size, _TRANSMISSION)
                sizes = struct.pack(">HIII", _INFO_BLOCK_SIZE, 1, 4096, MAX_REQUEST_BYTES)
                for data in (info, sizes):
                    connection.sendall(_reply(option, _REP_INFO, data))
                connection.sendall(_reply(option, _REP_ACK))
                if option == _OPT_GO:
                    return True
            elif option == _OPT_ABORT:
                connection.sendall(_reply(option, _REP_ACK))
                return False
            else:
                connection.sendall(_reply(option, _REP_UNSUPPORTED))

    def _answer(self, connection: socket.socket) -> bool:
        """Answers one request; tells whether there may be more."""
        magic, flags, kind, handle, offset, length = _REQUEST.unpack(_exactly(connection, _REQUEST.size))
        if magic != _REQUEST_MAGIC or kind == _DISCONNECT:
            return False
        carries = kind in (_READ, _WRITE)
        if carries and length > MAX_REQUEST_BYTES:
            raise InvalidInput("a request of NBD that is too long")
        data = _exactly(connection, length) if kind == _WRITE else b""
        with self._lock:
            if self._off:
                return False
            error, answer = self._do(kind, bool(flags & _FUA), offset, length, data)
        connection.sendall(struct.pack(">IIQ", _SIMPLE_REPLY_MAGIC, error, handle) + answer)
        return True

    def _do(self, kind: int, fua: bool, offset: int, length: int, data: bytes) -> tuple[int, bytes]:
        if kind == _FLUSH:
            self.cache.flush()
            return 0, b""
        if offset + length > self._size or kind not in (_READ, _WRITE, _TRIM, _WRITE_ZEROES):
            return _EINVAL, b""
        try:
            if kind == _READ:
                return 0, self.cache.read(offset, length)
            if kind == _WRITE:
                self.cache.write(offset, data, fua=fua)
            elif kind == _WRITE_ZEROES:
                for start in range(offset, offset + length, MAX_REQUEST_BYTES):
                    self.cache.write(start, bytes(min(MAX_REQUEST_BYTES, offset + length - start)), fua=fua)
        except OSError:
            return _EIO, b""
        return 0, b""


def _reply(option: int, kind: int, data: bytes = b"") -> bytes:
    return struct.pack(">QIII", _REPLY_MAGIC, option, kind, len(data)) + data


def _exactly(connection: socket.socket, length: int) -> bytes:
    data = bytearray()
    while len(data) < length:
        piece = connection.recv(min(length - len(data), 1 << 20))
        if not piece:
            raise EOFError
        data += piece
    return bytes(data)
