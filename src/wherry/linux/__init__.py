"""The kernel interface: one thin function per system call; the only place with ctypes."""
