"""The part of `ctypes` that system calls need: `import ctypes` is a tenth of a container's cold start.

The types are those of the standard library's core, ``_ctypes``, declared as ``ctypes/__init__.py`` declares them;
they work as the argument types of either. What is not here (pointers, callbacks, buffers of characters) is taken
from `ctypes` by the few modules that need it, none of them on the way to a container.
Source: CPython 3.11 to 3.14, Lib/ctypes/__init__.py, Modules/_ctypes.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from ctypes import (
        Structure,
        addressof,
        byref,
        c_char_p,
        c_int,
        c_int32,
        c_long,
        c_size_t,
        c_uint,
        c_uint32,
        c_uint64,
        c_ulong,
        c_ushort,
        c_void_p,
        get_errno,
        sizeof,
    )
    from typing import Any

    _Function: Any
    _FunctionWithLock: Any
    _Library: Any
else:
    from _ctypes import (
        FUNCFLAG_CDECL,
        FUNCFLAG_PYTHONAPI,
        FUNCFLAG_USE_ERRNO,
        CFuncPtr,
        Structure,
        _SimpleCData,
        addressof,
        byref,
        dlopen,
        get_errno,
        sizeof,
    )

    class c_int(_SimpleCData):  # noqa: N801, D101 the names of ctypes
        _type_ = "i"

    class c_uint(_SimpleCData):  # noqa: N801, D101
        _type_ = "I"

    class c_long(_SimpleCData):  # noqa: N801, D101
        _type_ = "l"

    class c_ulong(_SimpleCData):  # noqa: N801, D101
        _type_ = "L"

    class c_ushort(_SimpleCData):  # noqa: N801, D101
        _type_ = "H"

    class c_char_p(_SimpleCData):  # noqa: N801, D101
        _type_ = "z"

    class c_void_p(_SimpleCData):  # noqa: N801, D101
        _type_ = "P"

    if sizeof(c_long) == 8:
        c_uint64 = c_ulong
    else:

        class c_uint64(_SimpleCData):  # noqa: N801, D101
            _type_ = "Q"

    c_size_t = c_ulong  # as wide as a pointer, on Linux
    c_int32, c_uint32 = c_int, c_uint

    class _Function(CFuncPtr):
        _flags_ = FUNCFLAG_CDECL | FUNCFLAG_USE_ERRNO
        _restype_ = c_int

    class _FunctionWithLock(CFuncPtr):
        _flags_ = FUNCFLAG_CDECL | FUNCFLAG_USE_ERRNO | FUNCFLAG_PYTHONAPI
        _restype_ = c_int

    class _Library:
        """The C library, found through this very process."""

        _handle = dlopen(None, 0)


__all__ = [
    "Structure",
    "addressof",
    "byref",
    "c_char_p",
    "c_int",
    "c_int32",
    "c_long",
    "c_size_t",
    "c_uint",
    "c_uint32",
    "c_uint64",
    "c_ulong",
    "c_ushort",
    "c_void_p",
    "get_errno",
    "library_function",
    "sizeof",
]


def library_function(name: str, result: Any, *argtypes: Any, keep_lock: bool = False) -> Callable[..., int]:
    """Returns a function of the C library; errno is kept for `get_errno`.

    Args:
        name: the function's name.
        result: the type of what it returns.
        argtypes: the types of its arguments.
        keep_lock: do not release the interpreter's lock around it.

    Raises:
        AttributeError: the library has no such function.
    """
    call = (_FunctionWithLock if keep_lock else _Function)((name, _Library))
    call.argtypes = argtypes
    call.restype = result
    found: Callable[..., int] = call
    return found
