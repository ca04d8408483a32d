#!/bin/sh
# The first process of the user-mode kernel: the host's tree, read through hostfs, with control groups of version 2
# alone. /tmp is the host's too, as suites may lie there. Arguments come in the environment, where the kernel puts what
# it does not know of its command line.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root PYTHONDONTWRITEBYTECODE=1
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t cgroup2 cgroup2 /sys/fs/cgroup
for place in /run /var/tmp; do mount -t tmpfs tmpfs $place; done
mkdir -p /dev/pts /dev/shm
mount -t devpts devpts /dev/pts
mount -t tmpfs tmpfs /dev/shm
ip link set lo up
cd "$wherry_root" || exit 1
echo "guest: kernel $(uname -r), controllers: $(cat /sys/fs/cgroup/cgroup.controllers)"
"$wherry_python" -u tests/conformance/oci/run.py $wherry_arguments 2>&1
echo "guest: ended with $?"
echo o >/proc/sysrq-trigger
sleep 10
