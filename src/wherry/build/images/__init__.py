"""Images of hosts: disks, file systems, archives; the same bytes from the same host, anywhere."""
