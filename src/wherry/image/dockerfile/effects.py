"""What instructions do to an image's config, and the words that its history keeps of them.

Works on the ``config`` object of the document (``Cmd``, ``Env`` ...), as docker and OCI write it, and leaves all that
it does not know. Instructions have to be expanded (`expansion.Scope`). Those that change files as well, such as
WORKDIR, do so elsewhere. ``--change`` of import and commit goes through here, too.

Source: Dockerfile reference; OCI image-spec 1.1, config.md; moby's image/spec/v1.2.md (Healthcheck, OnBuild, Shell).
"""

from __future__ import annotations

import posixpath
from collections.abc import Mapping, Sequence
from typing import Any

from wherry.image.dockerfile.checks import expand_ports
from wherry.image.dockerfile.problems import Place
from wherry.image.dockerfile.runs import run_script, with_shell
from wherry.image.dockerfile.syntax import (
    KEYWORDS,
    Add,
    Arg,
    Cmd,
    Command,
    Copy,
    Entrypoint,
    Env,
    ExecForm,
    Expose,
    Healthcheck,
    Heredoc,
    Instruction,
    Label,
    Maintainer,
    MountFlag,
    Onbuild,
    Run,
    Shell,
    Stopsignal,
    User,
    Volume,
    Workdir,
)

MAX_CREATED_BY_CHARS = 16 * 1024
DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""The PATH that docker gives a stage whose base has none, ``scratch`` among them."""
FILE_INSTRUCTIONS = (Add, Copy, Run)
"""Those whose history entry stands for a layer. WORKDIR makes one only where the directory is not there yet."""


def apply_to_document(document: dict[str, Any], node: Instruction, *, cmd_set: bool = False) -> None:
    """Carries out what an instruction does to a whole image config: its ``config`` object, and MAINTAINER's author.

    Args:
        document: the image config; changed in place.
        node: an expanded instruction.
        cmd_set: as in `apply_instruction`.
    """
    if isinstance(node, Maintainer):
        document["author"] = node.name
        return
    config = dict(document.get("config") or {})
    apply_instruction(config, node, cmd_set=cmd_set)
    document["config"] = config


def apply_instruction(config: dict[str, Any], node: Instruction, *, cmd_set: bool = False) -> None:
    """Carries out what an instruction does to the config.

    Args:
        config: the ``config`` object; changed in place, its lists and objects replaced.
        node: an expanded instruction. One that changes files alone does nothing here.
        cmd_set: whether the stage itself had a CMD before, which an ENTRYPOINT then leaves alone.
    """
    match node:
        case Cmd():
            config["Cmd"] = list(with_shell(node.command, shell_of(config)))
        case Entrypoint():
            config["Entrypoint"] = list(with_shell(node.command, shell_of(config))) or None
            if not cmd_set:
                config["Cmd"] = None  # "setting ENTRYPOINT will reset CMD" of the base
        case Env():
            config["Env"] = merge_env(config.get("Env") or [], node.pairs)
        case Label():
            config["Labels"] = dict(config.get("Labels") or {}) | dict(node.pairs)
        case Expose():
            place = Place(where="EXPOSE", line=node.first_line, text=node.text)
            ports: dict[str, Any] = {port: {} for port in expand_ports(node.ports, place)}
            config["ExposedPorts"] = dict(config.get("ExposedPorts") or {}) | ports
        case Volume():
            config["Volumes"] = dict(config.get("Volumes") or {}) | {path: {} for path in node.paths}
        case User():
            config["User"] = node.user
        case Workdir():
            config["WorkingDir"] = resolve_workdir(str(config.get("WorkingDir") or "/"), node.path)
        case Stopsignal():
            config["StopSignal"] = node.signal
        case Healthcheck():
            config["Healthcheck"] = healthcheck(node)
        case Shell():
            config["Shell"] = list(node.args)
        case Onbuild():
            config["OnBuild"] = [*(config.get("OnBuild") or []), node.expression]
        case _:
            pass


def base_env(env: Sequence[str]) -> list[str]:
    """Returns the environment that a stage begins with: that of its base, and a PATH in any case."""
    has_path = any(item.startswith("PATH=") for item in env)
    return list(env) if has_path else [f"PATH={DEFAULT_PATH}", *env]


def shell_of(config: Mapping[str, Any]) -> tuple[str, ...]:
    """Returns the shell that a config names, () for docker's default."""
    shell = config.get("Shell")
    return tuple(str(word) for word in shell) if isinstance(shell, list) else ()


def merge_env(env: Sequence[str], pairs: Sequence[tuple[str, str]]) -> list[str]:
    """Returns an environment with variables set, each in the place that it had."""
    found = dict(item.partition("=")[::2] for item in env)
    found.update(pairs)
    return [f"{name}={value}" for name, value in found.items()]


def resolve_workdir(before: str, path: str) -> str:
    """Returns the working directory after WORKDIR, absolute and without ``.`` and ``..``."""
    return "/" + posixpath.normpath(posixpath.join("/", before, path)).lstrip("/")


def healthcheck(node: Healthcheck) -> dict[str, Any]:
    """Returns the config's Healthcheck object."""
    if node.command is None:
        return {"Test": ["NONE"]}
    if isinstance(node.command, ExecForm):
        found: dict[str, Any] = {"Test": ["CMD", *node.command.args]}
    else:
        found = {"Test": ["CMD-SHELL", node.command.text]}
    for key, value in (
        ("Interval", node.interval_ns),
        ("Timeout", node.timeout_ns),
        ("StartPeriod", node.start_period_ns),
        ("StartInterval", node.start_interval_ns),
        ("Retries", node.retries),
    ):
        if value:
            found[key] = value
    return found


def created_by(node: Instruction, *, shell: Sequence[str] = (), args: Mapping[str, str] | None = None) -> str:
    """Returns the history's ``created_by`` of an instruction: the instruction as a Dockerfile has it.

    RUN shows the whole command with its shell, and before it, as docker does, ``|N`` and the arguments that it saw.
    Secrets and the contents of heredocs that are files are not shown.

    Args:
        node: an expanded instruction.
        shell: the stage's shell.
        args: the declared arguments, `expansion.Scope.arg_values`.
    """
    text = f"{KEYWORDS[type(node)]} {_arguments(node, shell, args or {})}"
    return text if len(text) <= MAX_CREATED_BY_CHARS else text[: MAX_CREATED_BY_CHARS - 3] + "..."


def _arguments(node: Instruction, shell: Sequence[str], args: Mapping[str, str]) -> str:
    match node:
        case Run():
            counted = [f"|{len(args)}", *(f"{name}={value}" for name, value in args.items())] if args else []
            return " ".join([*map(_mount, node.mounts), *counted, *run_script(node, shell).args])
        case Copy() | Add():
            return " ".join([*_copy_flags(node), *map(_source, node.sources), node.destination])
        case Cmd() | Entrypoint():
            return _list(with_shell(node.command, shell))
        case Healthcheck():
            return "NONE" if node.command is None else f"CMD {_command(node.command)}"
        case Env() | Label():
            return " ".join(f"{name}={value}" for name, value in node.pairs)
        case Arg():
            return " ".join(name if value is None else f"{name}={value}" for name, value in node.pairs)
        case Expose():
            return " ".join(node.ports)
        case Volume():
            return _list(node.paths)
        case Shell():
            return _list(node.args)
        case Onbuild():
            return node.expression
        case User():
            return node.user
        case Workdir():
            return node.path
        case Stopsignal():
            return node.signal
        case Maintainer():
            return node.name
        case _:
            return node.image


def _list(words: Sequence[str]) -> str:
    return "[" + " ".join(_string(word) for word in words) + "]"


def _string(word: str) -> str:
    return '"' + word.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _command(command: Command) -> str:
    return _list(command.args) if isinstance(command, ExecForm) else command.text


def _mount(flag: MountFlag) -> str:
    return "--mount=" + ",".join([f"type={flag.type}", *(f"{name}={value}" for name, value in flag.options)])


def _source(source: str | Heredoc) -> str:
    return source if isinstance(source, str) else f"<<{source.name}"


def _copy_flags(node: Copy | Add) -> list[str]:
    flags = [f"--from={node.from_}"] if isinstance(node, Copy) and node.from_ else []
    flags += [f"--{name}={value}" for name, value in (("chown", node.chown), ("chmod", node.chmod)) if value]
    return flags
