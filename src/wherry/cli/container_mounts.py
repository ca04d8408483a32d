"""``-v``, ``--mount``, ``--tmpfs`` and what is short for them: docker's words and the mounts that they mean.

Pure. Budget: on the way of every ``wherry run``, so that nothing is imported that an interpreter has not.
"""

from __future__ import annotations

import os

from wherry.core.errors import InvalidInput, UsageError
from wherry.spec.container import Mount, MountType

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any, Literal

    Propagation = Literal["", "private", "rprivate", "shared", "rshared", "slave", "rslave"]

PROPAGATIONS: tuple[Propagation, ...] = ("private", "rprivate", "shared", "rshared", "slave", "rslave")
_IGNORED = ("z", "Z", "rw", "nocopy", "cached", "delegated", "consistent", "rbind", "dev", "nodev", "exec", "suid")
_KEYS = {
    **dict.fromkeys(("type", "source", "target", "readonly"), ("bind", "volume", "tmpfs")),
    **dict.fromkeys(("bind-propagation", "bind-recursive", "bind-nonrecursive", "bind-create-src", "idmap"), ("bind",)),
    **dict.fromkeys(("volume-nocopy", "volume-subpath"), ("volume",)),
    **dict.fromkeys(("tmpfs-size", "tmpfs-mode"), ("tmpfs",)),
    "consistency": ("bind", "volume", "tmpfs"),
}
_ALIASES = {"src": "source", "dst": "target", "destination": "target", "ro": "readonly"}
_REFUSED = {
    "volume-driver": "there are local volumes alone",
    "volume-opt": "there are local volumes alone",
    "volume-label": "label the volume when you make it: `wherry volume create --label`",
}
LOCALTIME = "/etc/localtime"


def parse_volume(text: str, *, cwd: object) -> Mount:
    """Returns what ``-v [SOURCE:]TARGET[:OPTIONS]`` means; a source with a slash is a path.

    Raises:
        UsageError: it is not of that form.
    """
    parts = text.split(":")
    if len(parts) == 1:
        return Mount(type=MountType.VOLUME, target=parts[0])
    if len(parts) > 3 or not parts[0] or not parts[1]:
        raise UsageError(f"-v: not a mount: {text!r}", hint="write it as SOURCE:TARGET or SOURCE:TARGET:ro")
    bind = "/" in parts[0] or parts[0].startswith((".", "~"))
    given: dict[str, Any] = {}
    for option in parts[2].split(",") if len(parts) == 3 else ():
        if option in ("ro", "readonly"):
            given["read_only"] = True
        elif option in PROPAGATIONS and bind:
            given["propagation"] = option
        elif option == "nocopy" and not bind:
            given["no_copy"] = True
        elif option == "norbind" or (option == "bind" and bind):
            given["recursive"] = "disabled"
        elif option == "idmap":
            given["mapped"] = True  # a volume is so in any case
        elif option == "O":
            given["overlaid"] = True
        elif option == "U":
            hint = "with --userns, idmap shows them with the right owners; else give them away with chown"
            raise UsageError("-v: option 'U' of podman is not there: nothing of the host is given away here", hint=hint)
        elif option and option not in _IGNORED:
            hint = f"there are ro, rw, nocopy, idmap, O and {', '.join(PROPAGATIONS)}"
            raise UsageError(f"-v: no option {option!r}", hint=hint)
    if bind:
        return Mount(type=MountType.BIND, source=_absolute(parts[0], cwd), target=parts[1], **given)
    return Mount(type=MountType.VOLUME, source=parts[0], target=parts[1], **given)


def _absolute(path: str, cwd: object) -> str:
    return os.path.normpath(os.path.join(str(cwd), os.path.expanduser(path)))


def parse_mount(text: str, *, cwd: object) -> Mount:
    """Returns what ``--mount type=TYPE,source=SOURCE,target=TARGET,...`` means.

    Raises:
        UsageError: a key is unknown, missing, or of another type.
    """
    values = _mount_keys(text)
    kind = next((word for word in MountType.ALL if word == values.get("type", "volume")), None)
    if kind is None:
        raise UsageError(f"--mount: no type {values['type']!r}", hint="use bind, volume or tmpfs")
    if not values.get("target"):
        raise UsageError(f"--mount: no target in {text!r}")
    for key in values:
        if kind not in _KEYS[key]:
            raise UsageError(f"--mount: {key} is for type={_KEYS[key][0]}")
    source = values.get("source", "")
    if kind == MountType.BIND:
        if not source:
            raise UsageError(f"--mount: no source in {text!r}")
        source = _absolute(source, cwd)
    elif kind == MountType.TMPFS and source:
        raise UsageError("--mount: a tmpfs has no source")
    return Mount(
        type=kind,
        source=source,
        target=values["target"],
        read_only=_truth(values, "readonly"),
        tmpfs_size_bytes=_size(values["tmpfs-size"], "--mount") if "tmpfs-size" in values else None,
        tmpfs_mode=parse_mode(values["tmpfs-mode"]) if "tmpfs-mode" in values else None,
        propagation=_choice("bind-propagation", values.get("bind-propagation", ""), ("", *PROPAGATIONS)),
        recursive=_recursive(values),
        mapped=_truth(values, "idmap"),
        no_copy=_truth(values, "volume-nocopy"),
        subpath=values.get("volume-subpath", ""),
    )


def _mount_keys(text: str) -> dict[str, str]:
    values: dict[str, str] = {}
    for item in text.split(","):
        key, _, value = item.partition("=")
        key = _ALIASES.get(key.strip(), key.strip())
        if key in _REFUSED:
            raise UsageError(f"--mount: {key} is not supported", hint=_REFUSED[key])
        if key not in _KEYS:
            raise UsageError(f"--mount: key {key!r} is not supported", hint=f"known are {', '.join(_KEYS)}")
        values[key] = value
    return values


def _truth(values: Mapping[str, str], key: str) -> bool:
    word = values.get(key, "false").lower()
    if word not in ("", "true", "1", "false", "0"):
        raise UsageError(f"--mount: {key} is true or false, not {word!r}")
    return word in ("", "true", "1")


def _recursive(values: Mapping[str, str]) -> Literal["enabled", "disabled", "writable", "readonly"]:
    if _truth(values, "bind-nonrecursive"):
        return "disabled"
    found: Literal["enabled", "disabled", "writable", "readonly"] = _choice(
        "bind-recursive", values.get("bind-recursive", "enabled"), ("enabled", "disabled", "writable", "readonly")
    )
    if found in ("writable", "readonly") and not _truth(values, "readonly"):
        raise UsageError(f"--mount: bind-recursive={found} needs readonly")
    if found == "readonly" and values.get("bind-propagation") != "rprivate":
        raise UsageError("--mount: bind-recursive=readonly needs bind-propagation=rprivate")
    return found


def _choice(key: str, word: str, words: tuple[Any, ...]) -> Any:
    if word not in words:
        raise UsageError(f"--mount: {key} is one of {', '.join(filter(None, words))}, not {word!r}")
    return word


def parse_tmpfs(text: str) -> Mount:
    """Returns what ``--tmpfs TARGET[:OPTIONS]`` means.

    Raises:
        UsageError: an option is unknown.
    """
    from wherry.cli.container_options import of_flag
    from wherry.engine import words

    return of_flag("--tmpfs", lambda: words.tmpfs(text))


def _size(text: str, flag: str) -> int:
    from wherry.core.units import parse_size

    return parse_size(text, where=flag)


def parse_mode(text: str) -> int:
    """Returns the number of an octal mode.

    Raises:
        UsageError: it is none.
    """
    from wherry.engine import words

    try:
        return words.mode(text)
    except InvalidInput as error:
        raise UsageError(error.what, hint=error.hint) from error


def x11(environment: Mapping[str, str]) -> tuple[tuple[Mount, ...], dict[str, str]]:
    """Returns the mounts and the variables of ``--x11``: the display's sockets and the key to it, both read-only.

    Raises:
        UsageError: there is no display.
    """
    display = environment.get("DISPLAY", "")
    if not display:
        raise UsageError("--x11: DISPLAY is not set", hint="run it in a session with a display")
    mounts = [Mount(type=MountType.BIND, source="/tmp/.X11-unix", target="/tmp/.X11-unix", read_only=True)]  # noqa: S108
    variables = {"DISPLAY": display}
    home = environment.get("HOME", "")
    key = environment.get("XAUTHORITY") or (f"{home}/.Xauthority" if home else "")
    if key and os.path.exists(key):
        mounts.append(Mount(type=MountType.BIND, source=os.path.abspath(key), target="/run/xauthority", read_only=True))
        variables["XAUTHORITY"] = "/run/xauthority"
    return tuple(mounts), variables


def timezone(word: str) -> Mount:
    """Returns the mount of ``--tz ZONE`` or ``--tz local``.

    Raises:
        UsageError: there is no such time zone.
    """
    source = LOCALTIME if word == "local" else f"/usr/share/zoneinfo/{word}"
    if ".." in word.split("/") or not os.path.isfile(source):
        raise UsageError(f"--tz: no time zone {word!r} on this host", hint="write it as Europe/Berlin, or local")
    return Mount(type=MountType.BIND, source=os.path.realpath(source), target=LOCALTIME, read_only=True)


def notify(socket: str, word: str) -> tuple[tuple[Mount, ...], dict[str, str]]:
    """Returns the mounts and the variables of ``--sdnotify``: the service manager's socket, handed in.

    Raises:
        UsageError: there is no such way, or the socket cannot be handed in.
    """
    if word not in ("", "container", "ignore"):
        own = "use container: the command itself says that it is ready"
        hint = own if word == "conmon" else "use container or ignore"
        raise UsageError(f"--sdnotify: {word!r} is not supported", hint=hint)
    if word != "container" or not socket:
        return (), {}
    if not socket.startswith("/"):
        raise UsageError(f"--sdnotify: an abstract socket cannot be handed in: {socket!r}")
    inside = "/run/notify/notify.sock"
    return (Mount(type=MountType.BIND, source=socket, target=inside),), {"NOTIFY_SOCKET": inside}
