"""The part of ctypes that we declare ourselves is what the whole declares."""

from __future__ import annotations

import ctypes
import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

import wherry
from wherry.linux import quick_ctypes

NAMES = [name for name in quick_ctypes.__all__ if name.startswith("c_")]


@pytest.mark.parametrize("name", NAMES)
def test_a_type_has_the_size_and_the_range_of_its_namesake(name: str) -> None:
    ours, theirs = getattr(quick_ctypes, name), getattr(ctypes, name)
    assert ctypes.sizeof(ours) == ctypes.sizeof(theirs)
    assert ctypes.alignment(ours) == ctypes.alignment(theirs)
    if name not in ("c_char_p", "c_void_p"):
        assert ours(-1).value == theirs(-1).value


def test_a_structure_is_laid_out_as_by_ctypes() -> None:
    fields = ("c_ushort", "c_uint64", "c_int", "c_char_p", "c_uint32", "c_size_t")

    def layout(module: object) -> list[tuple[int, int]]:
        members = [(f"_{number}", getattr(module, name)) for number, name in enumerate(fields)]
        made = type("Made", (ctypes.Structure,), {"_fields_": members})
        return [(getattr(made, name).offset, getattr(made, name).size) for name, _ in members]

    assert layout(quick_ctypes) == layout(ctypes)


def test_a_function_takes_the_types_of_both_and_keeps_errno() -> None:
    close = quick_ctypes.library_function("close", quick_ctypes.c_int, ctypes.c_int)
    read, write = os.pipe()
    os.close(write)
    assert close(read) == 0
    assert close(read) == -1
    assert quick_ctypes.get_errno() == errno.EBADF
    length = quick_ctypes.library_function("strlen", quick_ctypes.c_size_t, quick_ctypes.c_char_p, keep_lock=True)
    assert length(b"four") == 4


def test_an_unknown_function_is_an_error() -> None:
    with pytest.raises(AttributeError, match="no_such_function"):
        quick_ctypes.library_function("no_such_function", quick_ctypes.c_int)


def test_system_calls_do_not_load_the_whole() -> None:
    path = "import sys; sys.path.insert(0, sys.argv[1])"
    code = f"{path}; import wherry.linux.mount, wherry.linux.x; print('ctypes' in sys.modules)"
    source = str(Path(wherry.__file__).parents[1])
    done = subprocess.run([sys.executable, "-I", "-S", "-c", code, source], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
