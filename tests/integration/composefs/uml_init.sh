#!/bin/sh
# The first process of the user-mode kernel: the host's tree, read through hostfs, and an ext4 of its own for the tests.
# Arguments come in the environment, where the kernel puts what it does not know of its command line.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root PYTHONDONTWRITEBYTECODE=1
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t tmpfs tmpfs /run
mount -t tmpfs tmpfs /tmp
for module in drivers/block/loop fs/erofs/erofs fs/overlayfs/overlay; do
	insmod "/usr/lib/uml/modules/$(uname -r)/kernel/$module.ko"
done
truncate -s 120M /tmp/disk
mkfs.ext4 -q /tmp/disk
mkdir /tmp/fs
mount -o loop /tmp/disk /tmp/fs
cd "$wherry_root" || exit 1
echo "kernel $(uname -r)"
"$wherry_python" -m pytest -q -p no:cacheprovider --color=no --basetemp /tmp/fs/pt -k any_kernel $wherry_tests 2>&1
echo "pytest ended with $?"
echo o >/proc/sysrq-trigger
sleep 10
