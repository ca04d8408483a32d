"""Virtual machines: QEMU and user-mode Linux."""
