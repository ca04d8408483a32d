"""``generate systemd``: a container as a unit, in the shape that podman's users know.

``Type=exec`` and a container in the foreground: the process that systemd starts is the one that keeps the container,
so systemd sees its end and its status, and nothing has to be found by a pid file. With `new` the unit makes the
container anew each time, from the flags that it was made with; without, it starts the one that is there.
Pure: makes text of values.

Source: systemd.service(5), systemd.unit(5), "Specifiers"; podman-generate-systemd(1).
"""

from __future__ import annotations

from wherry.core.value import Value
from wherry.engine.spec import ContainerConfig
from wherry.engine.spec_flags import spec_flags

STOP_GRACE_S = 60
"""What systemd waits beyond the container's own patience, as podman has it."""
RESTART_POLICIES = ("no", "on-success", "on-failure", "on-abnormal", "on-watchdog", "on-abort", "always")
_PLAIN = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-+=./:,@")


class UnitOptions(Value):
    """How the unit is to be."""

    new: bool = False
    restart_policy: str = "on-failure"
    restart_sec: int | None = None
    stop_timeout_s: int | None = None
    """None: the container's own."""
    prefix: str = "container"
    separator: str = "-"
    wants: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    requires: tuple[str, ...] = ()
    no_header: bool = False


def unit_name(config: ContainerConfig, options: UnitOptions) -> str:
    """Returns ``container-web.service``."""
    return f"{options.prefix}{options.separator if options.prefix else ''}{config.name}.service"


def unit_text(config: ContainerConfig, options: UnitOptions, *, command: list[str], version: str) -> str:
    """Returns the unit's text.

    Args:
        config: the container's.
        options: how it is to be.
        command: the program and its global flags, with absolute paths.
        version: of Wherry, for the header.

    Raises:
        Unsupported: `new`, and the container was made in a way that flags cannot say.
    """
    name = unit_name(config, options)
    timeout_s = config.spec.stop_timeout_s if options.stop_timeout_s is None else options.stop_timeout_s
    start = [*command, *run_command(config)] if options.new else [*command, "start", "--attach", config.name]
    lines = [] if options.no_header else [f"# {name}", f"# Made by wherry {version}: wherry generate systemd", ""]
    lines += [
        "[Unit]",
        f"Description=Wherry {name}",
        f"Wants={' '.join(('network-online.target', *options.wants))}",
        f"After={' '.join(('network-online.target', *options.after))}",
        *([f"Requires={' '.join(options.requires)}"] if options.requires else []),
        "",
        "[Service]",
        "Type=exec",
        f"Restart={options.restart_policy}",
        *([f"RestartSec={options.restart_sec}"] if options.restart_sec is not None else []),
        f"TimeoutStopSec={timeout_s + STOP_GRACE_S}",
        # what a container ends with that was stopped by SIGTERM is no failure
        "SuccessExitStatus=143",
    ]
    if options.new:
        # what a power cut or a kill left of the last time
        lines.append(f"ExecStartPre=-{join([*command, 'rm', '--force', config.name])}")
    lines += [
        f"ExecStart={join(start)}",
        f"ExecStop={join([*command, 'stop', '--time', str(timeout_s), config.name])}",
        *([f"ExecStopPost=-{join([*command, 'rm', '--force', config.name])}"] if options.new else []),
        "",
        "[Install]",
        "WantedBy=default.target",
        "",
    ]
    return "\n".join(lines)


def join(words: list[str]) -> str:
    """Returns words as a command line of a unit: quoted, with nothing left for systemd to expand."""
    return " ".join(_quoted(word) for word in words)


def _quoted(word: str) -> str:
    text = word.replace("\\", "\\\\").replace("%", "%%").replace("$", "$$")
    for char, escaped in (('"', '\\"'), ("\n", "\\n"), ("\t", "\\t"), ("\r", "\\r")):
        text = text.replace(char, escaped)
    return text if word and set(word) <= _PLAIN else f'"{text}"'


def run_command(config: ContainerConfig) -> list[str]:
    """Returns ``run`` with the flags that make such a container again.

    Raises:
        Unsupported: something in it has no flag.
    """
    spec = config.spec
    words = ["run", "--rm", "--name", config.name, *spec_flags(spec)]
    command = list(spec.args or ())
    if spec.entrypoint is not None:
        words += ["--entrypoint", spec.entrypoint[0] if spec.entrypoint else ""]
        command = [*spec.entrypoint[1:], *command]
    if not spec.rootfs:
        return [*words, spec.image, *command]
    return [*words, "--rootfs", f"{spec.rootfs}{':direct' if spec.rootfs_direct else ''}", *command]
