#!/bin/sh
# Finds the root of this host, lays something to write to over it, and starts it; see the documentation of the initramfs.
export PATH=/bin
umask 022
wait_s=@WAIT@
panic_s=@PANIC@
load="@LOAD@"

say() { echo "wherry: $*"; }

# A panic, not a loop: the boot loader counts what does not come up.
fail() {
	say "cannot start: $*"
	[ -z "$shell" ] || shell_here
	[ "$(cat /proc/sys/kernel/panic)" != 0 ] || echo "$panic_s" >/proc/sys/kernel/panic
	sync
	exit 1
}

shell_here() {
	say "a shell; leave it to go on"
	setsid cttyhack sh
}

read_command_line() {
	root= image= type= flags= upper= init=/sbin/init mode=ro shell=
	set -f
	for word in $(cat /proc/cmdline); do
		case $word in
			root=*) root=${word#root=} ;;
			rootfstype=*) type=${word#rootfstype=} ;;
			rootflags=*) flags=${word#rootflags=} ;;
			init=*) init=${word#init=} ;;
			ro | rw) mode=$word ;;
			wherry.root=*) image=${word#wherry.root=} ;;
			wherry.upper=*) upper=${word#wherry.upper=} ;;
			wherry.wait=*) wait_s=${word#wherry.wait=} ;;
			wherry.shell) shell=late ;;
			wherry.shell=*) shell=${word#wherry.shell=} ;;
		esac
	done
	set +f
	case $wait_s in *[!0-9]* | '') wait_s=@WAIT@ ;; esac
}

# Loads drivers of what has appeared since the last time.
load_drivers() {
	find /sys/devices -name modalias 2>/dev/null | xargs cat 2>/dev/null | sort -u >/run/aliases.new
	if [ -s /run/aliases ]; then
		grep -vxF -f /run/aliases /run/aliases.new >/run/aliases.more
	else
		cat /run/aliases.new >/run/aliases.more
	fi
	[ ! -s /run/aliases.more ] || xargs modprobe -qa </run/aliases.more 2>/dev/null
	cat /run/aliases.new >/run/aliases
}

# number FILE OFFSET BYTES: an unsigned number, the lowest byte first.
number() { od -An -v -t u"$3" -j "$2" -N "$3" "$1" 2>/dev/null | tr -d ' \n'; }

# hex FILE OFFSET BYTES: the bytes in hex.
hex() { od -An -v -t x1 -j "$2" -N "$3" "$1" 2>/dev/null | tr -d ' \n'; }

# The PARTUUID of a partition, in small letters: its disk and its number in there.
partition_uuid() {
	disk=/dev/$1 number=$2
	block=$(cat "/sys/class/block/$1/queue/logical_block_size")
	if [ "$(hex "$disk" "$block" 8)" = 4546492050415254 ]; then
		size=$(number "$disk" $((block + 84)) 4)
		at=$(($(number "$disk" $((block + 72)) 8) * block + (number - 1) * size + 16))
		# the first three parts have their lowest byte first; sed has no more than nine groups
		first=$(hex "$disk" $at 8 | sed 's/^\(..\)\(..\)\(..\)\(..\)\(..\)\(..\)\(..\)\(..\)$/\4\3\2\1-\6\5-\8\7/')
		echo "$first-$(hex "$disk" $((at + 8)) 2)-$(hex "$disk" $((at + 10)) 6)"
	else
		bytes=$(hex "$disk" 440 4 | sed 's/^\(..\)\(..\)\(..\)\(..\)$/\4\3\2\1/')
		printf '%s-%02x\n' "$bytes" "$number"
	fi
}

by_partition_name() {
	for entry in $(grep -lxF "PARTNAME=$1" /sys/class/block/*/uevent 2>/dev/null); do
		entry=${entry%/uevent}
		echo "/dev/${entry##*/}"
		return
	done
}

by_partition_uuid() {
	asked=$(echo "$1" | tr A-F a-f)
	for entry in /sys/class/block/*/partition; do
		[ -e "$entry" ] || continue
		entry=${entry%/partition}
		place=$(readlink -f "$entry")
		disk=${place%/*}
		if [ "$(partition_uuid "${disk##*/}" "$(cat "$entry/partition")")" = "$asked" ]; then
			echo "/dev/${entry##*/}"
			return
		fi
	done
}

# find_device WORDS: its path, or nothing; a plain name is a partition's, or a file system's label.
find_device() {
	case $1 in
		PARTLABEL=*) by_partition_name "${1#PARTLABEL=}" ;;
		PARTUUID=*) by_partition_uuid "${1#PARTUUID=}" ;;
		LABEL=* | UUID=*) findfs "$1" 2>/dev/null ;;
		/dev/*) [ ! -b "$1" ] || echo "$1" ;;
		*)
			found=$(by_partition_name "$1")
			[ -n "$found" ] || found=$(findfs "LABEL=$1" 2>/dev/null)
			echo "$found"
			;;
	esac
}

# wait_for WORDS: sets `device` as soon as it is there.
wait_for() {
	device= count=0
	while :; do
		load_drivers
		device=$(find_device "$1")
		[ -z "$device" ] || return 0
		[ $count -lt $((wait_s * 5)) ] || break
		[ $count != 10 ] || say "waiting for $1"
		count=$((count + 1))
		sleep 0.2
	done
	say "block devices: $(ls /sys/class/block | tr '\n' ' ')"
	fail "$1 did not appear within $wait_s s"
}

# type_of FILE: what file system it has, by its magic number.
type_of() {
	if [ "$(hex "$1" 1024 4)" = e2e1f5e0 ]; then
		echo erofs
	elif [ "$(hex "$1" 0 4)" = 68737173 ]; then
		echo squashfs
	elif [ "$(hex "$1" 1080 2)" = 53ef ]; then
		echo ext4
	elif [ "$(hex "$1" 510 2)" = 55aa ]; then
		echo vfat
	fi
}

# mount_at DEVICE FOLDER MODE
mount_at() {
	kind=${type:-$(type_of "$1")}
	[ -n "$kind" ] || fail "$1 has no file system that is known here"
	mkdir -p "$2"
	mount -t "$kind" -o "$3${flags:+,$flags}" "$1" "$2" || fail "cannot mount $1 as $kind"
}

# mount_part NAME FOLDER MODE: a partition that is not the root, so that the root's type is not its.
mount_part() {
	wait_for "$1"
	mkdir -p "$2"
	kind=$(type_of "$device")
	mount -t "${kind:-vfat}" -o "$3" "$device" "$2" || fail "cannot mount $device ($1)"
}

find_root() {
	kind=
	case $image in
		image:*/*)
			image=${image#image:}
			mount_part "${image%%/*}" /run/wherry/image ro
			file=/run/wherry/image/${image#*/}
			[ -f "$file" ] || fail "no file ${image#*/} on $device"
			modprobe -q loop
			loop=$(losetup -f) || fail "no loop device"
			losetup -r "$loop" "$file" || fail "no loop device for ${image#*/}"
			mount_at "$loop" "$lower" ro
			;;
		9p:*)
			load_drivers
			modprobe -qa 9pnet_virtio 9p
			kind=9p
			mkdir -p "$lower"
			mount -t 9p -o "trans=virtio,version=9p2000.L,msize=262144,ro" "${image#9p:}" "$lower" ||
				fail "no shared folder ${image#9p:}"
			;;
		'')
			[ -n "$root" ] || fail "neither root= nor wherry.root= is on the kernel's command line"
			wait_for "$root"
			mount_at "$device" "$lower" "$mode"
			;;
		*) fail "wherry.root=$image: neither image:NAME/PATH nor 9p:TAG" ;;
	esac
}

# Lays what is written over the root: in memory, or on a partition.
lay_upper() {
	if [ -z "$upper" ]; then
		case $kind in erofs | squashfs | 9p) upper=tmpfs ;; *) upper=none ;; esac
	fi
	case $upper in
		none)
			mount --bind "$lower" /sysroot || fail "cannot bind the root"
			return
			;;
		tmpfs)
			mkdir -p /run/wherry/upper
			mount -t tmpfs -o mode=0755 upper /run/wherry/upper || fail "no memory for what is written"
			over=/run/wherry/upper
			;;
		*/*)
			mount_part "${upper%%/*}" /run/wherry/upper rw
			over=/run/wherry/upper/${upper#*/}
			;;
		*) fail "wherry.upper=$upper: none, tmpfs or NAME/FOLDER" ;;
	esac
	mkdir -p "$over/files" "$over/work" || fail "cannot write to $upper"
	modprobe -q overlay
	mount -t overlay -o "lowerdir=$lower,upperdir=$over/files,workdir=$over/work" root /sysroot ||
		fail "cannot lay $upper over the root"
}

mount -t proc -o nosuid,nodev,noexec proc /proc
mount -t sysfs -o nosuid,nodev,noexec sys /sys
mount -t devtmpfs -o nosuid,mode=0755 dev /dev
mount -t tmpfs -o nosuid,nodev,mode=0755 run /run
mkdir -p /run/wherry
lower=/run/wherry/lower

read_command_line
[ -z "$load" ] || modprobe -qa $load 2>/dev/null || say "not all modules could be loaded: $load"
[ "$shell" != now ] || shell_here
find_root
lay_upper
[ -x "/sysroot$init" ] || [ -L "/sysroot$init" ] || fail "the root has no $init"
rm -f /run/aliases*
for place in dev proc sys run; do
	[ -d "/sysroot/$place" ] || mkdir "/sysroot/$place" || fail "the root has no folder $place"
	mount --move "/$place" "/sysroot/$place" || fail "cannot move $place"
done
exec switch_root /sysroot "$init"
fail "cannot start $init"
