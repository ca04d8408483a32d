# What follows is the same in every packed app. Its variables and functions begin with _w_, so that nothing that is
# exported already is changed; they are never exported. Words of the app travel as "$@" alone.

_w_fail() { printf '%s: %s\n' "$_w_name" "$1" >&2; exit 125; }

# Sets _w_tool to a program's path, or to busybox and its word; fixed places first, then PATH.
_w_find() {
  for _w_dir in /usr/bin /bin /usr/sbin /sbin; do
    if [ -x "$_w_dir/$1" ]; then _w_tool=$_w_dir/$1; return 0; fi
  done
  _w_tool=
  IFS=:
  for _w_dir in ${PATH-}; do
    case $_w_dir in /*) [ -x "$_w_dir/$1" ] && _w_tool=$_w_dir/$1 && break;; esac
  done
  IFS=$_w_ifs
  case $_w_tool in *[[:space:]]*) _w_tool=;; esac
  [ -z "$_w_tool" ] || return 0
  [ "$1" != busybox ] && _w_find busybox || return 1
  _w_busybox=$_w_tool _w_tool=
  case " $($_w_busybox --list 2>/dev/null | while read -r _w_word; do printf '%s ' "$_w_word"; done)" in
    *" $1 "*) _w_tool="$_w_busybox $1"; return 0;;
  esac
  return 1
}
_w_information() {
  printf '%s\n' "name: $_w_name" "machine: ${_w_machine:-any}" "isolation: $_w_isolate" \
    "image: $_w_format, $_w_size bytes at $_w_offset, SHA-256 $_w_sha256"
}
_w_need() { _w_find "$1" || _w_fail "this machine has no $1 (of util-linux or busybox)"; }

_w_ifs=' 	
'
IFS=$_w_ifs
set -f

# ---- inside: in a mount namespace of its own; KIND ISOLATE HOW FILE UID GID FOLDERS-OF-THE-CALLER VOLUMES WORDS...

# Where the image is mounted: a folder that is there, and on the way to nothing that the app shall see.
_w_place() {
  for _w_r in /mnt /media /srv /opt /boot /usr/share /var/lib; do
    [ -d "$_w_r" ] && [ ! -L "$_w_r" ] || continue
    case "$_w_at/" in "$_w_r"/*) continue;; esac
    case " $_w_binds" in *" $_w_r "*|*" $_w_r/"*) continue;; esac
    case "
$_w_volumes" in *"
$_w_r"[/:]*) continue;; esac
    return 0
  done
  _w_fail "no folder to mount the image on"
}

_w_by_loop() {
  _w_options=ro,nosuid,nodev,loop,offset=$_w_offset,sizelimit=$_w_size
  _w_said=$($_w_mount -t "$_w_format" -o "$_w_options" "$_w_self" "$_w_r" 2>&1 </dev/null) && return 0
  _w_tried="$_w_tried
  loop device: $_w_said"
  # busybox before 1.36 knows no offset; and a device that is just going away makes util-linux fail
  _w_find losetup || return 1
  _w_losetup=$_w_tool
  for _w_try in 1 2 3 4 5 6; do
    _w_loop=$($_w_losetup -f 2>/dev/null) || return 1
    $_w_losetup -r -o "$_w_offset" "$_w_loop" "$_w_self" 2>/dev/null || continue
    $_w_mount -t "$_w_format" -o ro,nosuid,nodev "$_w_loop" "$_w_r" 2>/dev/null
    _w_status=$?
    $_w_losetup -d "$_w_loop" 2>/dev/null # now: it goes away with its last user
    return "$_w_status"
  done
  return 1
}

# The server of a FUSE mount lives in a mount namespace that has the mount no more: so it ends with the app's namespace.
_w_by_fuse() {
  case $_w_format in
    squashfs) _w_server=squashfuse;;
    *) _w_server=erofsfuse;;
  esac
  if ! _w_find "$_w_server"; then
    _w_tried="$_w_tried
  $_w_server: it is not installed"
    return 1
  fi
  _w_server=$_w_tool
  if ! [ -r /dev/fuse ] || ! [ -w /dev/fuse ]; then
    _w_tried="$_w_tried
  $_w_server: /dev/fuse is not there, or not for this user"
    return 1
  fi
  $_w_mount --make-rshared / 2>/dev/null || $_w_mount -o rshared none / 2>/dev/null
  _w_said=$($_w_unshare -m --propagation unchanged /bin/sh "$_w_self" --wherry-serve "$_w_mount" "$_w_umount" \
    "$_w_server" "$_w_kind" "$_w_self" "$_w_r" 2>&1 </dev/null) && return 0
  _w_tried="$_w_tried
  $_w_server: $_w_said"
  return 1
}

_w_by_unpacking() {
  if [ -z "$_w_unpack" ]; then
    _w_tried="$_w_tried
  unpacking into memory: only with --wherry-allow-unpack (or WHERRY_APP_ALLOW_UNPACK=1)"
    return 1
  fi
  if [ "$_w_format" != squashfs ] || ! _w_find unsquashfs; then
    _w_tried="$_w_tried
  unpacking into memory: no unsquashfs here"
    return 1
  fi
  $_w_mount -t tmpfs -o nosuid,nodev,mode=755 tmpfs "$_w_r" || return 1
  _w_said=$($_w_tool -no-xattrs -quiet -no-progress -f -o "$_w_offset" -d "$_w_r" "$_w_self" 2>&1 </dev/null) || {
    _w_tried="$_w_tried
  unsquashfs: $_w_said"
    return 1
  }
  printf '%s: note: the image cannot be mounted here; it was unpacked into memory\n' "$_w_name" >&2
}

_w_whole() {
  _w_length=$(wc -c <"$_w_self") && [ "$_w_length" -lt "$((_w_offset + _w_size))" ] &&
    _w_fail "this file is cut off: $((_w_length)) bytes instead of $((_w_offset + _w_size)) or more: $_w_self"
}

_w_image() {
  _w_tried=
  # What is missing at its end keeps squashfs from being mounted; EROFS begins with what it needs.
  [ "$_w_format" = squashfs ] || _w_whole
  case $_w_how in
    loop) _w_by_loop && return 0;;
    fuse) _w_by_fuse && return 0;;
    unpack) _w_unpack=1; _w_by_unpacking && return 0;;
    *)
      if [ "$_w_kind" = root ]; then
        _w_by_loop && return 0
      else
        _w_tried="
  loop device: only root can"
      fi
      _w_by_fuse && return 0
      _w_by_unpacking && return 0;;
  esac
  _w_whole
  _w_fail "the image cannot be mounted; tried:$_w_tried"
}

_w_memory_table() {
  for _w_path in $_w_memory; do
    printf 'tmpfs %s tmpfs nosuid,nodev,mode=1777 0 0\n' "$_w_r$_w_path"
  done
}
_w_table() { # prints fstab lines
  if [ "$_w_isolate" = none ]; then
    for _w_path in $_w_binds; do
      [ -e "$_w_path" ] && [ -e "$_w_r$_w_path" ] && [ "$_w_path" != "$_w_r" ] &&
        printf '%s %s none rbind 0 0\n' "$_w_path" "$_w_r$_w_path"
    done
    _w_memory_table
    return 0
  fi
  for _w_path in null zero full random urandom tty; do
    [ -e "/dev/$_w_path" ] && [ -e "$_w_r/dev/$_w_path" ] &&
      printf '/dev/%s %s none bind 0 0\n' "$_w_path" "$_w_r/dev/$_w_path"
  done
  [ "$_w_isolate" = namespaces ] || printf '/proc %s none rbind 0 0\n' "$_w_r/proc"
  for _w_path in /etc/resolv.conf /etc/hosts; do
    [ -e "$_w_path" ] && [ -e "$_w_r$_w_path" ] && printf '%s %s none bind 0 0\n' "$_w_path" "$_w_r$_w_path"
  done
  _w_memory_table
  printf 'tmpfs %s tmpfs nosuid,nodev,mode=1777 0 0\n' "$_w_r/tmp"
  printf 'tmpfs %s tmpfs nosuid,nodev,mode=755 0 0\n' "$_w_r/run"
  printf 'tmpfs %s tmpfs nosuid,nodev,mode=1777 0 0\n' "$_w_r/dev/shm"
}

_w_fill() {
  # The image has the same as a file, for where it is mounted in most cases: one process instead of one for each line.
  if [ "$_w_r" = /mnt ] && [ -f "/mnt/.wherry/$_w_isolate" ]; then
    $_w_mount -a -T "/mnt/.wherry/$_w_isolate" 2>/dev/null && return 0
  fi
  _w_table | while read -r _w_from _w_to _w_type _w_options _w_rest; do
    case $_w_type in
      none) $_w_mount "--$_w_options" "$_w_from" "$_w_to" 2>/dev/null || $_w_mount -o "$_w_options" "$_w_from" "$_w_to";;
      *) $_w_mount -t "$_w_type" -o "$_w_options" "$_w_from" "$_w_to";;
    esac || exit 1
  done || _w_fail "what the app needs of this machine cannot be mounted"
}

# The app starts where it was called, if that can be.
_w_where() {
  [ "$_w_isolate" = none ] || { _w_in=$_w_workdir; return 0; }
  _w_in=$_w_at
  for _w_path in $_w_binds; do
    case "$_w_at/" in "$_w_path"/*) return 0;; esac
  done
  case " $_w_spare " in
    *" $_w_top "*) [ -d "$_w_r$_w_top" ] && $_w_mount --rbind "$_w_top" "$_w_r$_w_top" && return 0;;
  esac
  [ "$_w_at" != / ] || return 0
  [ -d "$_w_r/.wherry/cwd" ] && $_w_mount --rbind "$_w_at" "$_w_r/.wherry/cwd" && _w_in=/.wherry/cwd && return 0
  _w_in=/
}

_w_more() {
  IFS='
'
  for _w_path in $_w_volumes; do
    IFS=$_w_ifs
    _w_from=${_w_path%%:*} _w_to=${_w_path#*:}
    case $_w_to in *:ro) _w_to=${_w_to%:ro} _w_options=1;; *) _w_options=;; esac
    [ -e "$_w_from" ] || _w_fail "no such path for a volume: $_w_from"
    [ -e "$_w_r$_w_to" ] || _w_fail "the app has no place for a volume: $_w_to"
    $_w_mount --rbind "$_w_from" "$_w_r$_w_to" || _w_fail "cannot mount the volume $_w_path"
    [ -z "$_w_options" ] || $_w_mount -o remount,bind,ro "$_w_r$_w_to" || _w_fail "cannot make it read-only: $_w_path"
  done
  IFS=$_w_ifs
}

# Becomes the app: "$@" are its words. nsenter changes root and folder alone here, as chroot does without the folder.
_w_become() {
  if [ "$_w_kind" = user ] && [ "$_w_isolate" = none ] && [ "$_w_uid" != 0 ] &&
    $_w_unshare -U --map-user="$_w_uid" --map-group="$_w_gid" -R / -- /bin/sh -c : 2>/dev/null; then
    exec $_w_unshare -U --map-user="$_w_uid" --map-group="$_w_gid" -R "$_w_r" -w "$_w_in" -- "$@"
  fi
  if _w_find nsenter; then exec $_w_tool -r"$_w_r" -w"$_w_r$_w_in" -- "$@"; fi
  _w_need chroot
  exec $_w_tool "$_w_r" "$@"
}

# Waits for a child and hands on what comes meanwhile. $2 is whom to tell: the child, or its own only child.
_w_attend() {
  _w_child=$1
  for _w_word in HUP INT QUIT TERM USR1 USR2 ALRM WINCH; do
    trap "_w_got=1; _w_tell_$2 $_w_word" "$_w_word"
  done
  while :; do
    _w_got=
    wait "$_w_child"
    _w_status=$?
    [ "$_w_got" ] || exit "$_w_status"
  done
}
_w_tell_child() { kill "-$1" "$_w_child" 2>/dev/null; }
# The first process of a namespace may take no signal: a shell in the background ignores some and cannot change that.
_w_tell_grandchild() {
  case $1 in
    INT|QUIT) if [ -t 0 ] || [ -t 1 ] || [ -t 2 ]; then return 0; fi;; # a terminal tells all of us
  esac
  _w_word=
  read -r _w_word _w_rest <"/proc/$_w_child/task/$_w_child/children" || :
  kill "-$1" ${_w_word:-"$_w_child"}
} 2>/dev/null

case ${1-} in
  --wherry-serve)
    _w_options=ro
    [ "$5" = user ] || _w_options=ro,allow_other
    case $_w_format in
      squashfs) $4 -o "$_w_options,offset=$_w_offset" "$6" "$7" || exit 1;;
      *) $4 "--offset=$_w_offset" -o "$_w_options" "$6" "$7" || exit 1;;
    esac
    $2 --make-rprivate / 2>/dev/null || $2 -o rprivate none / || exit 1
    exec $3 -l "$7"
    ;;
  --wherry-inside)
    _w_kind=$2 _w_isolate=$3 _w_how=$4 _w_unpack=$5 _w_self=$6 _w_uid=$7 _w_gid=$8 _w_at=$9
    shift 9
    _w_volumes=$1
    shift
    _w_need mount; _w_mount=$_w_tool
    _w_need unshare; _w_unshare=$_w_tool
    _w_need umount; _w_umount=$_w_tool
    _w_top=${_w_at#/} _w_top=/${_w_top%%/*}
    _w_place
    _w_image
    _w_fill
    _w_where
    _w_more
    _w_environment
    if [ "$_w_isolate" != namespaces ]; then _w_become "$@"; fi
    # The next process is the first of a process namespace; it dies with this one, and all others with it.
    _w_bound=
    if _w_find setpriv && $_w_tool --pdeathsig KILL /bin/sh -c : 2>/dev/null; then _w_bound="$_w_tool --pdeathsig KILL"; fi
    exec $_w_unshare -p -i -u /bin/sh "$_w_self" --wherry-outer "$_w_bound" "$_w_kind" "$_w_mount" "$_w_r" "$_w_in" \
      "$_w_self" "$@"
    ;;
  --wherry-outer)
    _w_bound=$2 _w_self=$7
    shift 2
    exec 9<&0
    $_w_bound /bin/sh "$_w_self" --wherry-first "$@" <&9 9<&- &
    _w_child=$!
    exec 9<&-
    _w_attend "$_w_child" grandchild
    ;;
  --wherry-first)
    _w_kind=$2 _w_mount=$3 _w_r=$4 _w_in=$5
    shift 6
    _w_isolate=namespaces
    $_w_mount -t proc -o nosuid,nodev,noexec proc "$_w_r/proc" ||
      _w_fail "no /proc of its own can be mounted here; --wherry-isolate=chroot goes without"
    _w_env=
    if _w_find env && $_w_tool --default-signal=INT,QUIT /bin/sh -c : 2>/dev/null; then
      _w_env="$_w_tool --default-signal=INT,QUIT"
    fi
    _w_need nsenter
    exec 9<&0
    $_w_env $_w_tool -r"$_w_r" -w"$_w_r$_w_in" -- "$@" <&9 9<&- &
    _w_child=$!
    exec 9<&-
    _w_attend "$_w_child" child
    ;;
esac

# ---- outside: as it was called

_w_net= _w_how=${WHERRY_APP_MOUNT:-auto} _w_unpack=${WHERRY_APP_ALLOW_UNPACK-} _w_volumes=
_w_isolate=${WHERRY_APP_ISOLATE:-$_w_isolate}
while :; do
  case ${1-} in
    --wherry-) shift; break;;
    --wherry-isolate=*) _w_isolate=${1#*=};;
    --wherry-mount=*) _w_how=${1#*=};;
    --wherry-allow-unpack) _w_unpack=1;;
    --wherry-volume=/*:/*) _w_volumes="$_w_volumes${1#*=}
";;
    --wherry-net=none) _w_net=-n;;
    --wherry-net=host) _w_net=;;
    --wherry-info) _w_information; exit 0;;
    --wherry-check)
      _w_is=$(tail -c "+$((_w_offset + 1))" "$0" | head -c "$_w_size" | sha256sum) || exit 125
      [ "${_w_is%% *}" = "$_w_sha256" ] || _w_fail "damaged: the image's SHA-256 is ${_w_is%% *}, not $_w_sha256"
      echo "the image is whole (SHA-256 $_w_sha256)"; exit 0;;
    --wherry-*) _w_fail "not known: $1 (isolate=, mount=, allow-unpack, volume=FROM:TO, net=, info, check; a word of the app's own goes after --wherry-)";;
    *) break;;
  esac
  shift
done
case $_w_isolate in none|chroot|namespaces) ;; *) _w_fail "isolation is none, chroot or namespaces, not $_w_isolate";; esac
case $_w_how in auto|loop|fuse|unpack) ;; *) _w_fail "mounting is auto, loop, fuse or unpack, not $_w_how";; esac

_w_pwd=${PWD-} _w_old=${OLDPWD-}
cd -P . 2>/dev/null && _w_at=$PWD || _w_at=/
PWD=$_w_pwd
if [ "$_w_old" ]; then OLDPWD=$_w_old; else unset OLDPWD; fi
unset WHERRY_APP_ISOLATE WHERRY_APP_MOUNT WHERRY_APP_ALLOW_UNPACK
case $0 in
  /*) _w_self=$0;;
  */*) _w_self=$_w_at/$0;;
  *) if [ -f "$0" ]; then _w_self=$_w_at/$0; else _w_self=$(command -v "$0"); fi;;
esac
[ -r "$_w_self" ] || _w_fail "cannot read its own file: $_w_self"

if [ "$_w_machine" ]; then
  _w_here=
  if [ -r /proc/sys/kernel/arch ]; then read -r _w_here </proc/sys/kernel/arch; else _w_here=$(uname -m); fi
  case $_w_machine:$_w_here in
    "$_w_here:$_w_here"|i686:x86_64|armv7l:aarch64|armv7l:armv8l) ;;
    *)
      _w_emulated=
      set +f
      for _w_path in /proc/sys/fs/binfmt_misc/qemu-*; do
        case ${_w_path##*/}:$_w_machine in
          "qemu-$_w_machine:$_w_machine"|qemu-arm:armv7l|qemu-i386:i686) [ -e "$_w_path" ] && _w_emulated=1;;
        esac
      done
      set -f
      [ "$_w_emulated" ] || _w_fail "is for $_w_machine, and this machine is $_w_here: install qemu-user-static";;
  esac
fi

# Rights are looked up and not tried: CAP_SYS_ADMIN is bit 21 of the effective set, CAP_SYS_CHROOT bit 18 (proc(5)).
_w_kind=user _w_uid= _w_gid=
if [ -r /proc/self/status ]; then
  while read -r _w_key _w_first _w_second _w_rest; do
    case $_w_key in
      Uid:) _w_uid=$_w_second;;
      Gid:) _w_gid=$_w_second;;
      CapEff:)
        case $_w_first in ??????????[2367abef][4-7cdef]*) _w_kind=root;; esac
        break;;
    esac
  done </proc/self/status
else
  _w_uid=$(id -u) _w_gid=$(id -g)
  [ "$_w_uid" != 0 ] || _w_kind=root
fi
set -- @WORDS@ "$@"
_w_need unshare
_w_flags="-m --propagation slave"
if [ "$_w_kind" = user ]; then
  _w_flags="-U -r -m"
  $_w_tool -U -r -m /bin/sh -c : 2>/dev/null || _w_fail "cannot be run here: this is not root, and the kernel gives uid $_w_uid no user namespace"
fi
exec $_w_tool $_w_flags $_w_net /bin/sh "$_w_self" --wherry-inside "$_w_kind" "$_w_isolate" "$_w_how" "$_w_unpack" "$_w_self" \
  "$_w_uid" "$_w_gid" "$_w_at" "$_w_volumes" "$@"
