"""The first process of a guest that runs one command: a script for busybox, and what it is told.

::

    /init               the script
    /bin/busybox        all its programs
    /wherry/modules/    kernel modules, in the order in which they are loaded
    /wherry/config      variables for the script
    /wherry/command     what is run, as a script of one line
    /wherry/etc/        hosts, hostname, resolv.conf

It reports over a channel of its own, in lines: ``ready``; ``exit N``; ``failed TEXT``. It is told ``size ROWS COLUMNS``
and ``signal N``. Standard input comes in pieces, each behind a line with its length, so that its end can be told;
standard output and errors are bytes as they are. User-mode Linux has serial lines for channels, made as plain as pipes.

What it writes is not trusted: it reaches no shell of this machine's, and is bounded (`jobs`).
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence

CONTROL, STDIN, STDOUT, STDERR = "wherry.control", "wherry.stdin", "wherry.stdout", "wherry.stderr"
CHANNELS = (CONTROL, STDIN, STDOUT, STDERR)
"""In the order of user-mode Linux's serial lines."""
MAX_PIECE_BYTES = 2048
"""Of standard input: less than a terminal's buffer, which a serial line has."""
ROOT_TAG = "wherry-root"
GUEST_ROOT = "/root"

INIT = r"""#!/bin/busybox sh
export PATH=/bin
/bin/busybox mkdir -p /proc /sys /dev /tmp /run /root /etc
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev 2>/dev/null
. /wherry/config
for module in /wherry/modules/*.ko; do
    [ -e "$module" ] && insmod "$module"
done

port() {
    tries=0
    while [ $tries -lt 100 ]; do
        for entry in /sys/class/virtio-ports/*; do
            [ -e "$entry/name" ] && [ "$(cat "$entry/name")" = "$1" ] && echo "/dev/${entry##*/}" && return
        done
        tries=$((tries + 1)); sleep 0.1
    done
    echo "wherry: no channel $1" >/dev/console
    poweroff -f
}

if [ "$KIND" = uml ]; then
    control=/dev/ttyS0 stdin=/dev/ttyS1 stdout=/dev/ttyS2 stderr=/dev/ttyS3 terminal=/dev/tty1
    for line in $control $stdin $stdout $stderr; do stty -F $line raw -echo; done
else
    control=$(port wherry.control) stdin=$(port wherry.stdin) stdout=$(port wherry.stdout) stderr=$(port wherry.stderr)
    terminal=/dev/hvc0
fi
exec 3<>$control 4<$stdin 5>$stdout 6>$stderr

fail() {
    echo "failed $*" >&3
    sleep 60
    poweroff -f
}

ln -sf /proc/self/fd /dev/fd; ln -sf fd/0 /dev/stdin; ln -sf fd/1 /dev/stdout; ln -sf fd/2 /dev/stderr
hostname "$HOST"
ip link set lo up
if [ -n "$NETWORK" ]; then
    for entry in /sys/class/net/*; do
        card=${entry##*/}
        case $card in
            eth*|en*|vec*)
                ip link set "$card" up && ip addr add 10.0.2.15/24 dev "$card" && ip route add default via 10.0.2.2
                break;;
        esac
    done
fi

if [ -n "$ROOT" ]; then
    if [ "$KIND" = uml ]; then
        mount -t hostfs none $ROOT || fail "cannot mount the root by hostfs"
    else
        mount -t 9p -o "trans=virtio,version=9p2000.L,msize=262144,cache=mmap$READ_ONLY" wherry-root $ROOT ||
            fail "cannot mount the root by 9p"
    fi
    for folder in proc sys dev tmp; do [ -d $ROOT/$folder ] || mkdir -p $ROOT/$folder; done
    mount -t proc proc $ROOT/proc || fail "cannot mount /proc"
    mount -t sysfs sysfs $ROOT/sys
    mount -t devtmpfs dev $ROOT/dev || mount --bind /dev $ROOT/dev
    for name in hosts hostname resolv.conf; do
        [ -L $ROOT/etc/$name ] && rm -f $ROOT/etc/$name
        [ -e $ROOT/etc/$name ] || { mkdir -p $ROOT/etc && : >$ROOT/etc/$name; }
        mount --bind /wherry/etc/$name $ROOT/etc/$name
    done 2>/dev/null
else
    cp /wherry/etc/* /etc
fi
mkdir -p $ROOT/dev/pts $ROOT/dev/shm
mount -t devpts -o ptmxmode=666,mode=620,gid=5 devpts $ROOT/dev/pts
mount -t tmpfs -o mode=1777,nosuid,nodev shm $ROOT/dev/shm
[ -d $ROOT/sys/fs/cgroup ] && mount -t cgroup2 cgroup $ROOT/sys/fs/cgroup
. /wherry/mounts
# a script for a root of its own: in /dev, which is memory, and not a part of that root
[ -n "$ROOT" ] && [ -e /wherry/script ] && cp /wherry/script $ROOT/dev/script

if [ -n "$TTY" ]; then
    exec 7<>$terminal  # kept open: a terminal that nobody has forgets its size
    stty -F $terminal sane rows $ROWS cols $COLUMNS
fi
echo ready >&3
if [ -n "$TTY" ]; then
    setsid -c sh /wherry/command <$terminal >$terminal 2>&1 3>&- 4>&- 5>&- 6>&- 7>&- &
else
    mkfifo /wherry/stdin
    if [ -n "$STDIN" ]; then
        while read -r count <&4 && [ "$count" -gt 0 ]; do
            dd bs=$count count=1 iflag=fullblock <&4 2>/dev/null || break
        done >/wherry/stdin 3>&- 5>&- 6>&- &
    else
        : >/wherry/stdin &
    fi
    if [ "$KIND" = uml ]; then
        # a serial line is a terminal for whoever asks: the command gets pipes, as it would elsewhere
        mkfifo /wherry/stdout /wherry/stderr
        cat /wherry/stdout >&5 3>&- 4>&- 6>&- & carriers=$!
        cat /wherry/stderr >&6 3>&- 4>&- 5>&- & carriers="$carriers $!"
        exec 5>/wherry/stdout 6>/wherry/stderr
    fi
    sh /wherry/command </wherry/stdin >&5 2>&6 3>&- 4>&- 5>&- 6>&- &
fi
pid=$!
while read -r word first second; do
    case $word in
        size) stty -F $terminal rows "$first" cols "$second";;
        signal) kill -"$first" $pid;;
    esac
done <&3 5>&- 6>&- &
wait $pid
code=$?
sync
if [ -n "$carriers" ]; then
    exec 5>&- 6>&-
    # what the command has left running may hold the pipes open: it ends now
    { sleep 2; kill $carriers; } 2>/dev/null &
    wait $carriers
fi
[ "$KIND" = uml ] && for line in $stdout $stderr $terminal; do stty -F $line raw 2>/dev/null; done
echo "exit $code" >&3
sleep 60
poweroff -f
"""


def config(
    *,
    uml: bool,
    has_root: bool,
    read_only: bool,
    hostname: str,
    network: bool,
    stdin: bool,
    terminal: tuple[int, int] | None,
) -> str:
    """Returns the variables for the script."""
    rows, columns = terminal or (24, 80)
    values = {
        "KIND": "uml" if uml else "qemu",
        "ROOT": GUEST_ROOT if has_root else "",
        "READ_ONLY": ",ro" if read_only else "",
        "HOST": hostname,
        "NETWORK": "yes" if network else "",
        "STDIN": "yes" if stdin else "",
        "TTY": "yes" if terminal else "",
        "ROWS": str(rows),
        "COLUMNS": str(columns),
    }
    return "".join(f"{name}={shlex.quote(value)}\n" for name, value in values.items())


def command(
    argv: Sequence[str], *, env: Mapping[str, str], working_dir: str, uid: int, gid: int, has_root: bool
) -> str:
    """Returns the script that becomes the command: in its root, its folder, as its user, with its environment alone."""
    variables = [f"{name}={value}" for name, value in env.items()]
    if has_root:
        enter = ["/bin/nsenter", f"-r{GUEST_ROOT}", f"-w{GUEST_ROOT}{working_dir}", "-S", str(uid), "-G", str(gid)]
        return f"exec {shlex.join(['/bin/env', '-i', *variables, *enter, '--', *argv])}\n"
    return f"cd {shlex.quote(working_dir)} && exec {shlex.join(['/bin/env', '-i', *variables, *argv])}\n"


def mounts(targets: Sequence[tuple[str, str]], *, has_root: bool) -> str:
    """Returns the script that mounts memory file systems: (place in the guest, options)."""
    root = GUEST_ROOT if has_root else ""
    lines = []
    for target, options in targets:
        place = shlex.quote(root + target)
        lines.append(f"mkdir -p {place} && mount -t tmpfs -o {shlex.quote(options)} tmpfs {place}\n")
    return "".join(lines)
