#!/bin/sh
# The first process of the user-mode kernel: mounts what the disk keeps, and runs the script that grows it.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
mount -t tmpfs tmpfs /run
mount -t tmpfs tmpfs /mnt
mkdir /mnt/persist
node=$(blkid -L persist)
[ -z "$node" ] || mount -t ext4 "$node" /mnt/persist
echo "found $(cat /mnt/persist/note 2>/dev/null || echo nothing)"
[ "$grow_skip" = table ] || sh "$grow_script" persist
echo "grown with $?"
if [ -n "$node" ]; then
	echo "a device's own" >/mnt/persist/note
	echo "blocks $(stat -f -c '%b' /mnt/persist) of $(cat "/sys/class/block/${node##*/}/size")"
	[ "$grow_cut" = yes ] || umount /mnt/persist
fi
echo o >/proc/sysrq-trigger
sleep 10
