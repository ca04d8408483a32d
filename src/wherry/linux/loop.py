"""Loop devices: a file as a block device, for file systems that this kernel does not mount from a file.

Source: loop(4); include/uapi/linux/loop.h of Linux 6.12. LOOP_CONFIGURE came with Linux 5.8.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct

LO_FLAGS_READ_ONLY = 1
LO_FLAGS_AUTOCLEAR = 4
LO_FLAGS_DIRECT_IO = 16

_LOOP_CTL_GET_FREE = 0x4C82
_LOOP_CONFIGURE = 0x4C0A
_CONFIG = struct.Struct("=II QQQQQIIII 64s64s32sQQ 64x")
"""struct loop_config with its struct loop_info64."""
_NAME_BYTES = 64
_ATTEMPTS = 16
_PAGE_BYTES = 4096


def attach_read_only(fd: int, name: str, *, block_bytes: int = 4096, offset_bytes: int = 0, size_bytes: int = 0) -> int:
    """Makes a file, or a part of it, a block device that goes away when nothing uses it any more.

    Args:
        fd: the file, open for reading.
        name: what ``losetup`` shows; cut at 63 bytes.
        block_bytes: of the device.
        offset_bytes: where the part begins; at a multiple of 512.
        size_bytes: how long the part is; 0: to the end.

    Returns:
        a descriptor of the device, closed on exec; the caller closes it once the device is mounted.

    Raises:
        OSError: no loop devices here, none is free, or the kernel refuses.
    """
    control = os.open("/dev/loop-control", os.O_RDWR | os.O_CLOEXEC)
    try:
        for _ in range(_ATTEMPTS):
            number = fcntl.ioctl(control, _LOOP_CTL_GET_FREE)
            device = os.open(f"/dev/loop{number}", os.O_RDWR | os.O_CLOEXEC)
            flags = LO_FLAGS_READ_ONLY | LO_FLAGS_AUTOCLEAR
            if block_bytes == _PAGE_BYTES and not offset_bytes:  # a part need not lie where direct reads may begin
                flags |= LO_FLAGS_DIRECT_IO
            file_name = os.fsencode(name)[: _NAME_BYTES - 1]
            config = _CONFIG.pack(
                fd, block_bytes, 0, 0, 0, offset_bytes, size_bytes, 0, 0, 0, flags, file_name, b"", b"", 0, 0
            )
            try:
                fcntl.ioctl(device, _LOOP_CONFIGURE, config)
            except OSError as error:
                os.close(device)
                if error.errno == errno.EBUSY:  # somebody else took it meanwhile
                    continue
                raise
            return device
    finally:
        os.close(control)
    raise OSError(errno.EBUSY, os.strerror(errno.EBUSY), "/dev/loop-control")
