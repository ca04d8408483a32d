"""Hosts of which the kernel and all programs are compiled here: the kernel, busybox, libcap."""
