"""crypt(3): the C library's hashes of passwords, as /etc/shadow and htpasswd have them.

Python's own module of it is gone from 3.13 on.
"""

from __future__ import annotations

import ctypes
import ctypes.util

from wherry.core.errors import Unsupported

_DATA_BYTES = 256 * 1024
"""Room for ``struct crypt_data`` of any library: libxcrypt's has 32 KiB, the GNU library's old one 128."""


def crypt(phrase: str, setting: str) -> str | None:
    """Returns the hash of a password.

    Args:
        phrase: the password, without NUL.
        setting: a hash, whose kind, salt and cost are taken.

    Returns:
        The hash; None where the library does not know this kind.

    Raises:
        Unsupported: there is no crypt(3) here.
    """
    function = _function()
    data = ctypes.create_string_buffer(_DATA_BYTES)
    found: bytes | None = function(phrase.encode(), setting.encode(), data)
    if found is None or found.startswith(b"*"):  # what stands for an error
        return None
    return found.decode()


def _function() -> ctypes._NamedFuncPointer:
    name = ctypes.util.find_library("crypt")
    try:
        function = ctypes.CDLL(name or None).crypt_r  # in musl's C library itself
    except (OSError, AttributeError):
        raise Unsupported("there is no crypt(3)", hint="install libcrypt1") from None
    function.argtypes = [ctypes.c_char_p, ctypes.c_char_p, ctypes.c_char_p]
    function.restype = ctypes.c_char_p
    return function
