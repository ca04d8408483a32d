"""bpf(2), as far as control groups need it: instructions, loading a device program, attaching it.

Source: include/uapi/linux/bpf.h of Linux 6.12, Documentation/bpf/standardization/instruction-set.rst.
"""

from __future__ import annotations

import sys
from ctypes import Structure, addressof, byref, c_char, c_int, c_size_t, c_uint32, c_uint64, c_void_p, sizeof

from wherry.linux.libc import system_call

BPF_PROG_LOAD = 5
BPF_PROG_ATTACH = 8
BPF_PROG_DETACH = 9
BPF_PROG_GET_FD_BY_ID = 13
BPF_PROG_QUERY = 16
BPF_PROG_TYPE_CGROUP_DEVICE = 15
BPF_CGROUP_DEVICE = 6
BPF_F_ALLOW_MULTI = 2
BPF_F_REPLACE = 4

LDX_W, JEQ_K, JNE_K, JMP32_JNE_K = 0x61, 0x15, 0x55, 0x56
MOV64_K, MOV64_X, AND64_K, RSH64_K, EXIT = 0xB7, 0xBF, 0x57, 0x77, 0x95

_INSTRUCTION_BYTES = 8
_MAX_PROGRAMS = 64
"""Of one group and one kind: BPF_CGROUP_MAX_PROGS of the kernel."""
_LICENSE = b"Apache-2.0\0"


class _Load(Structure):
    _fields_ = [
        ("prog_type", c_uint32),
        ("insn_cnt", c_uint32),
        ("insns", c_uint64),
        ("license", c_uint64),
        ("log_level", c_uint32),
        ("log_size", c_uint32),
        ("log_buf", c_uint64),
        ("kern_version", c_uint32),
        ("prog_flags", c_uint32),
        ("prog_name", c_char * 16),
    ]


class _Attach(Structure):
    _fields_ = [
        (name, c_uint32) for name in ("target_fd", "attach_bpf_fd", "attach_type", "attach_flags", "replace_bpf_fd")
    ]


class _Query(Structure):
    _fields_ = [
        ("target_fd", c_uint32),
        ("attach_type", c_uint32),
        ("query_flags", c_uint32),
        ("attach_flags", c_uint32),
        ("prog_ids", c_uint64),
        ("prog_cnt", c_uint32),
        ("pad", c_uint32),
    ]


class _Id(Structure):
    _fields_ = [("prog_id", c_uint32), ("next_id", c_uint32), ("open_flags", c_uint32)]


_bpf = system_call("bpf", c_int, c_void_p, c_size_t)


def instruction(code: int, dst: int = 0, src: int = 0, offset: int = 0, immediate: int = 0) -> bytes:
    """Returns one instruction in this machine's byte order."""
    registers = dst | src << 4 if sys.byteorder == "little" else dst << 4 | src
    order = sys.byteorder
    return b"%c%c%b%b" % (
        code,
        registers,
        (offset & 0xFFFF).to_bytes(2, order),
        (immediate & 0xFFFFFFFF).to_bytes(4, order),
    )


def load_device_program(code: bytes) -> int:
    """Loads a program of type BPF_PROG_TYPE_CGROUP_DEVICE; returns its descriptor, closed on exec.

    Raises:
        OSError: EPERM without CAP_BPF or CAP_SYS_ADMIN in the first user namespace, ENOSYS or EINVAL by a kernel
            that cannot.
    """
    code_buffer = (c_char * len(code)).from_buffer_copy(code)
    license_buffer = (c_char * len(_LICENSE)).from_buffer_copy(_LICENSE)
    args = _Load(
        prog_type=BPF_PROG_TYPE_CGROUP_DEVICE,
        insn_cnt=len(code) // _INSTRUCTION_BYTES,
        insns=addressof(code_buffer),
        license=addressof(license_buffer),
        prog_name=b"wherry_devices",
    )
    return _bpf(BPF_PROG_LOAD, byref(args), sizeof(args))


def attached(group_fd: int) -> tuple[int, ...]:
    """Returns the ids of the device programs that are attached to a group itself."""
    ids = (c_uint32 * _MAX_PROGRAMS)()
    args = _Query(target_fd=group_fd, attach_type=BPF_CGROUP_DEVICE, prog_ids=addressof(ids), prog_cnt=_MAX_PROGRAMS)
    _bpf(BPF_PROG_QUERY, byref(args), sizeof(args))
    return tuple(ids[: args.prog_cnt])


def open_program(program_id: int) -> int:
    """Returns a descriptor of a loaded program."""
    args = _Id(prog_id=program_id)
    return _bpf(BPF_PROG_GET_FD_BY_ID, byref(args), sizeof(args))


def attach(group_fd: int, program_fd: int, *, replace_fd: int = -1) -> None:
    """Attaches a device program to a group, beside those of others, or in the place of one (Linux 5.6)."""
    flags = BPF_F_ALLOW_MULTI | (BPF_F_REPLACE if replace_fd >= 0 else 0)
    args = _Attach(
        target_fd=group_fd,
        attach_bpf_fd=program_fd,
        attach_type=BPF_CGROUP_DEVICE,
        attach_flags=flags,
        replace_bpf_fd=max(replace_fd, 0),
    )
    _bpf(BPF_PROG_ATTACH, byref(args), sizeof(args))


def detach(group_fd: int, program_fd: int) -> None:
    """Takes a device program off a group."""
    args = _Attach(target_fd=group_fd, attach_bpf_fd=program_fd, attach_type=BPF_CGROUP_DEVICE)
    _bpf(BPF_PROG_DETACH, byref(args), sizeof(args))
