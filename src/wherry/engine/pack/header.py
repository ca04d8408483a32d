"""The first bytes of a packed app: a program for any POSIX shell, and a description for Wherry.

::

    0        #!/bin/sh
             # wherry-app {"isolate": ..., "offset": ..., "size": ...}     one line of JSON
             ... the script, ends with `exit` ...
             # padding                                                  up to a multiple of 4096
    offset   squashfs image, `size` bytes

The script knows nothing but its own file: it makes a mount namespace, mounts the image there, and becomes the command.
The kernel ends the mount with the last process, and the loop device with the mount (LO_FLAGS_AUTOCLEAR), whatever
kills them. It uses sh, unshare, mount and chroot, of util-linux or of busybox; nothing is unpacked.

Words go to the command through ``"$@"`` alone, never through text that a shell reads again. All variables begin with
``_w_``: what is exported already stays as it is.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from wherry.core import jsonio
from wherry.core.errors import InvalidInput, UsageError

BLOCK_BYTES = 4096
MAX_HEADER_BYTES = 256 * 1024
MAX_WORDS_BYTES = 128 * 1024
VERSION = 1
_MARK = b"# wherry-app "
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
BINDS = ("/dev", "/proc", "/sys", "/home", "/tmp", "/run", "/etc/resolv.conf", "/etc/hosts")  # noqa: S108 a mount point
"""What of the machine an app without isolation sees beside its own files."""
FOLDERS = ("/dev", "/proc", "/sys", "/tmp", "/run")  # noqa: S108 a mount point
"""What there must be in each image, to be mounted on."""


class Isolate(StrEnum):
    """How far an app is kept from the machine."""

    NONE = "none"
    """Its own root; devices, processes, homes, /tmp and the network are the machine's."""
    NAMESPACES = "namespaces"
    """Its own processes, names and IPC, /tmp of its own, nothing of the machine's files."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """What a packed app says of itself."""

    name: str
    command: tuple[str, ...]
    """The program's path in the image, and the arguments before those that are given."""
    machine: str
    """``uname -m``'s word; empty: any."""
    isolate: Isolate = Isolate.NONE
    env: tuple[tuple[str, str], ...] = ()
    binds: tuple[str, ...] = BINDS
    size: int = 0
    """Of the image, in bytes."""
    offset: int = 0
    """Where the image begins; 0 while it is not known."""

    def describe(self) -> dict[str, Any]:
        """Returns what stands in the header's line of JSON."""
        return {
            "binds": list(self.binds),
            "command": list(self.command),
            "env": dict(self.env),
            "isolate": str(self.isolate),
            "machine": self.machine,
            "name": self.name,
            "offset": self.offset,
            "size": self.size,
            "version": VERSION,
        }


def write(header: Header) -> bytes:
    """Returns the header's bytes, a multiple of 4096.

    Raises:
        UsageError: words or names that no program can be given.
    """
    _check(header)
    offset = BLOCK_BYTES
    while True:
        text = _text(header, offset)
        if len(text) + 2 <= offset:
            padding = offset - len(text)
            return text + b"#" * (padding - 1) + b"\n"
        offset += BLOCK_BYTES


def parse(data: bytes, *, where: object) -> Header:
    """Reads a header from the first bytes of a file.

    Raises:
        InvalidInput: it is not a packed app, or one of another version.
    """
    lines = data.split(b"\n", 2)
    if len(lines) < 3 or lines[0] != b"#!/bin/sh" or not lines[1].startswith(_MARK):
        raise InvalidInput("not a packed app", where=where)
    value = jsonio.loads(lines[1].removeprefix(_MARK), where=where)
    version = value.get("version") if isinstance(value, dict) else None
    if version != VERSION:
        raise InvalidInput(f"a packed app of version {version!r}; this Wherry reads {VERSION}", where=where)
    try:
        found = Header(
            name=_typed(value, "name", str),
            command=_words(value, "command"),
            machine=_typed(value, "machine", str),
            isolate=Isolate(_typed(value, "isolate", str)),
            env=tuple((str(key), str(word)) for key, word in sorted(_typed(value, "env", dict).items())),
            binds=_words(value, "binds"),
            size=_typed(value, "size", int),
            offset=_typed(value, "offset", int),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise InvalidInput(f"a packed app whose description is malformed ({error})", where=where) from error
    if found.offset <= 0 or found.offset % BLOCK_BYTES or found.size <= 0 or found.offset > MAX_HEADER_BYTES:
        raise InvalidInput("a packed app whose image is at no place", where=where)
    return found


def _typed(value: Mapping[str, Any], key: str, kind: type) -> Any:
    found = value[key]
    if not isinstance(found, kind) or isinstance(found, bool):
        raise TypeError(f"{key} is no {kind.__name__}")
    return found


def _words(value: Mapping[str, Any], key: str) -> tuple[str, ...]:
    found: list[Any] = _typed(value, key, list)
    if not all(isinstance(word, str) for word in found):
        raise TypeError(f"{key} has something that is no string")
    return tuple(found)


def _check(header: Header) -> None:
    if not header.command:
        raise UsageError("an app needs a command")
    for word in (*header.command, *(value for _, value in header.env), header.name):
        if "\0" in word:
            raise UsageError("a word with a NUL in it", where=repr(word))
        try:
            word.encode()
        except UnicodeEncodeError as error:
            raise UsageError("a word that is not UTF-8", where=repr(word)) from error
    for name, _ in header.env:
        if not _NAME.fullmatch(name):
            raise UsageError("not a name of an environment variable", where=name)
    for path in header.binds:
        if not path.startswith("/") or path == "/" or re.search(r"[^A-Za-z0-9_./+:@%,-]", path) or ".." in path:
            raise UsageError("not a path that can be bound: letters, digits and ._-+:@%, alone", where=path)
    if sum(len(word) for word in header.command) > MAX_WORDS_BYTES:
        raise UsageError(f"the command is longer than {MAX_WORDS_BYTES} bytes")


def _text(header: Header, offset: int) -> bytes:
    from dataclasses import replace

    described = jsonio.compact(replace(header, offset=offset).describe())
    settings = {
        "_w_app": header.name,
        "_w_offset": str(offset),
        "_w_size": str(header.size),
        "_w_machine": header.machine,
        "_w_isolate": str(header.isolate),
        "_w_binds": " ".join(header.binds),
    }
    lines = [f"{key}={shlex.quote(value)}" for key, value in settings.items()]
    exports = "".join(f"export {key}={shlex.quote(value)}\n" for key, value in header.env)
    # The inner script is text that a second shell reads: its values are quoted once for that one, once for the first.
    values = {
        "SETTINGS": "\n".join(lines),
        "WORDS": " ".join(shlex.quote(word) for word in header.command),
        "INSIDE": shlex.quote(_filled(_INSIDE, {"EXPORTS": exports})),
    }
    body = _filled(_SCRIPT, values)
    return b"#!/bin/sh\n" + _MARK + described.rstrip(b"\n") + b"\n" + body.encode()


def _filled(template: str, values: Mapping[str, str]) -> str:
    """Puts values in, in one pass: what looks like a place in a value is left alone."""
    return re.sub("@([A-Z]+)@", lambda found: values[found[1]], template)


_INSIDE = """\
set -u
fail() { echo "$_w_app: $*" >&2; exit 125; }
mount --make-rprivate / 2>/dev/null || mount -o rprivate none / 2>/dev/null || :
_w_r=
for _w_place in /mnt /media /srv /opt; do
  case " $_w_binds " in *" $_w_place "*) continue;; esac
  if [ -d "$_w_place" ] && [ ! -L "$_w_place" ]; then _w_r=$_w_place; break; fi
done
[ "$_w_r" ] || fail "no folder to mount on: tried /mnt /media /srv /opt"
_w_said=
if [ "$_w_how" = root ]; then
  _w_said=$(mount -t squashfs -o "loop,ro,nodev,nosuid,offset=$_w_offset" "$_w_self" "$_w_r" 2>&1) || {
    _w_done=
    for _w_try in 1 2 3 4 5; do
      _w_loop=$(losetup -f 2>/dev/null) || break
      losetup -r -o "$_w_offset" "$_w_loop" "$_w_self" 2>/dev/null || continue
      if mount -t squashfs -o ro,nodev,nosuid "$_w_loop" "$_w_r" 2>/dev/null; then _w_done=1; fi
      losetup -d "$_w_loop" 2>/dev/null || :
      break
    done
    [ "$_w_done" ] ||
      fail "the image cannot be mounted (damaged file, no loop device, or no squashfs in the kernel): $_w_said"
  }
else
  _w_said=$(squashfuse -o "ro,nodev,nosuid,offset=$_w_offset" "$_w_self" "$_w_r" 2>&1 </dev/null) ||
    fail "squashfuse cannot mount the image (damaged file, or no /dev/fuse): $_w_said"
fi
if [ "$_w_isolate" = namespaces ]; then
  mount -t proc -o nosuid,nodev,noexec proc "$_w_r/proc" || fail "no /proc"
  mount -t tmpfs -o nosuid,nodev,mode=1777 tmpfs "$_w_r/tmp" || fail "no /tmp"
  mount -t tmpfs -o nosuid,nodev,mode=755 tmpfs "$_w_r/run" || fail "no /run"
  mount -t tmpfs -o nosuid,noexec,mode=755 tmpfs "$_w_r/dev" || fail "no /dev"
  for _w_node in null zero full random urandom tty; do
    [ -e "/dev/$_w_node" ] || continue
    : >"$_w_r/dev/$_w_node"
    mount --bind "/dev/$_w_node" "$_w_r/dev/$_w_node" || fail "no /dev/$_w_node"
  done
  ln -s /proc/self/fd "$_w_r/dev/fd"
  ln -s fd/0 "$_w_r/dev/stdin"
  ln -s fd/1 "$_w_r/dev/stdout"
  ln -s fd/2 "$_w_r/dev/stderr"
  if command -v hostname >/dev/null 2>&1; then hostname "$_w_app" 2>/dev/null || :; fi
  _w_at=/
else
  for _w_path in $_w_binds; do
    [ -e "$_w_path" ] && [ -e "$_w_r$_w_path" ] || continue
    if [ "$_w_path" = /proc ] && [ "$_w_how" = user ]; then
      mount -t proc -o nosuid,nodev,noexec proc "$_w_r/proc" || fail "no /proc"
      continue
    fi
    mount --rbind "$_w_path" "$_w_r$_w_path" || fail "$_w_path cannot be bound"
  done
  _w_at=$(pwd -P 2>/dev/null) && [ -d "$_w_r$_w_at" ] || _w_at=/
fi
_w_tool=$(command -v unshare); _w_root=$(command -v chroot) || [ "$_w_skip" ] || fail "no chroot"
_w_env=
if [ "$_w_stay" ] && env --default-signal=INT,QUIT true 2>/dev/null; then _w_env=$(command -v env); fi
_w_child=$_w_stay _w_wd=$_w_skip
unset _w_app _w_offset _w_self _w_how _w_isolate _w_binds _w_stay _w_skip
@EXPORTS@if [ "$_w_child" ]; then
  # The first process of its namespace: the command is a child, so that signals mean to it what they always do.
  cd /
  if [ "$_w_wd" ]; then set -- "$_w_tool" --root="$_w_r" --wd="$_w_at" -- "$@"; else set -- "$_w_root" "$_w_r" "$@"; fi
  [ -z "$_w_env" ] || set -- "$_w_env" --default-signal=INT,QUIT "$@"
  trap : INT QUIT
  # A background command has /dev/null as its input, unless it comes from elsewhere.
  { "$@" <&9 9<&- & } 9<&0
  _w_child=$!
  trap "kill -TERM $_w_child" TERM
  while :; do
    wait "$_w_child"; _w_status=$?
    kill -0 "$_w_child" 2>/dev/null || exit "$_w_status"
  done
fi
[ "$_w_wd" ] && exec "$_w_tool" --root="$_w_r" --wd="$_w_at" -- "$@"
exec "$_w_root" "$_w_r" "$@"
"""

_SCRIPT = """\
set -u
@SETTINGS@
fail() { echo "$_w_app: $*" >&2; exit 125; }
_w_isolate=${WHERRY_APP_ISOLATE:-$_w_isolate}
case $_w_isolate in none|namespaces) ;; *) fail "WHERRY_APP_ISOLATE is none or namespaces, not $_w_isolate";; esac
unset WHERRY_APP_ISOLATE
_w_self=$0
case $_w_self in
  /*) ;;
  */*) _w_self=$(pwd -P)/$_w_self;;
  *) if [ -f "./$_w_self" ]; then _w_self=$(pwd -P)/$_w_self; else _w_self=$(command -v -- "$0"); fi;;
esac
[ -r "$_w_self" ] || fail "cannot read myself: $_w_self"
for _w_tool in unshare mount; do
  command -v "$_w_tool" >/dev/null 2>&1 || fail "needs $_w_tool (util-linux or busybox)"
done
if [ "$_w_machine" ]; then
  _w_here=$(uname -m)
  case $_w_machine:$_w_here in
    "$_w_here:$_w_here"|i686:x86_64|armv7l:aarch64|armv7l:armv8l) ;;
    *) _w_emulated=
      for _w_entry in /proc/sys/fs/binfmt_misc/qemu-*; do
        case ${_w_entry##*/}:$_w_machine in
          "qemu-$_w_machine:$_w_machine"|qemu-arm:armv7l|qemu-i386:i686) [ -e "$_w_entry" ] && _w_emulated=1;;
        esac
      done
      [ "$_w_emulated" ] || fail "is for $_w_machine, and this machine is $_w_here: install qemu-user-static";;
  esac
fi
_w_inside=@INSIDE@
_w_stay= _w_skip= _w_kill=
_w_help=$(unshare --help 2>&1) || :
case $_w_help in *--kill-child*) _w_kill=--kill-child;; esac
case $_w_help in *--wd*) _w_skip=1;; esac
_w_why="as root (this is uid $(id -u))"
if [ "$(id -u)" = 0 ]; then
  # Root of a user namespace cannot mount a block device (user_namespaces(7)).
  _w_range=4294967295
  if [ -r /proc/self/uid_map ]; then read -r _w_first _w_rest _w_range </proc/self/uid_map || :; fi
  if [ "$_w_range" = 4294967295 ]; then _w_why="as root ($(unshare -m true 2>&1))" || :
  else _w_why="as root (this is root of a user namespace only)"; fi
fi
if [ "$_w_why" = "as root ()" ]; then
  _w_how=root
  _w_flags=-m
  [ "$_w_isolate" = none ] || { _w_stay=1 _w_flags="-m -p -i -u -f $_w_kill"; }
else
  _w_how=user _w_stay=1
  command -v squashfuse >/dev/null 2>&1 ||
    fail "cannot mount: tried $_w_why, and squashfuse (not installed)"
  [ -c /dev/fuse ] || fail "cannot mount: tried $_w_why, and squashfuse (no /dev/fuse)"
  { unshare -r -m true; } 2>/dev/null ||
    fail "cannot mount: tried $_w_why, and a user namespace (not allowed here)"
  _w_flags="-r -m -p -f $_w_kill"
  [ "$_w_isolate" = none ] || _w_flags="$_w_flags -i -u"
fi
set -- @WORDS@ "$@"
export _w_app _w_offset _w_self _w_how _w_isolate _w_binds _w_stay _w_skip
if [ -z "$_w_stay" ]; then
  exec unshare $_w_flags /bin/sh -c "$_w_inside" "$_w_app" "$@"
  exit 125
fi
# unshare takes no SIGTERM while it waits (util-linux before 2.41): it is told to the first process of the namespace.
pass() {
  _w_first=
  read -r _w_first _w_rest <"/proc/$_w_pid/task/$_w_pid/children" || :
  if [ "$_w_first" ]; then kill -TERM "$_w_first"; else kill -KILL "$_w_pid"; fi
} 2>/dev/null
trap : INT QUIT
trap pass TERM HUP
_w_bound=
if setpriv --pdeathsig KILL true 2>/dev/null; then _w_bound="setpriv --pdeathsig KILL"; fi
{ $_w_bound unshare $_w_flags /bin/sh -c "$_w_inside" "$_w_app" "$@" <&9 9<&- & } 9<&0
_w_pid=$!
while :; do
  wait "$_w_pid"; _w_status=$?
  kill -0 "$_w_pid" 2>/dev/null || exit "$_w_status"
done
exit 125
"""
