"""``--change``: lines of a Dockerfile that alter an image's config, as ``docker import`` and ``docker commit`` take.

Only instructions that touch nothing but the config are here. A line is one instruction; there are no
continuations, comments or variables.

Source: Dockerfile reference; "docker image import", option ``--change``.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from wherry.core import jsonio
from wherry.core.errors import InvalidInput

_SHELL = ["/bin/sh", "-c"]
_PORT = re.compile(r"(\d{1,5})(?:-(\d{1,5}))?(?:/(tcp|udp|sctp))?\Z", re.IGNORECASE)
_MAX_PORT = 65535


def apply_changes(config: Mapping[str, Any], changes: Sequence[str]) -> dict[str, Any]:
    """Returns the ``config`` object of an image's config, with the instructions carried out in their order.

    Args:
        config: docker's config object (``Cmd``, ``Env`` ...), not changed.
        changes: instructions such as ``CMD ["nginx"]``, ``ENV A=b``.

    Raises:
        InvalidInput: an instruction is not known or malformed.
    """
    result = dict(config)
    for line in changes:
        word, _, rest = line.strip().partition(" ")
        instruction = _INSTRUCTIONS.get(word.upper())
        if instruction is None:
            known = " ".join(sorted(_INSTRUCTIONS))
            raise InvalidInput(f"--change: not an instruction: {word[:40]!r}", hint=f"known are {known}")
        if not rest.strip():
            raise InvalidInput(f"--change: {word.upper()} needs an argument", where=line)
        instruction(result, rest.strip(), line)
    return result


def _command(key: str) -> Callable[[dict[str, Any], str, str], None]:
    def apply(config: dict[str, Any], rest: str, line: str) -> None:
        if not rest.startswith("["):
            config[key] = [*_SHELL, rest]
            return
        value = jsonio.loads(rest, where=line)
        if not all(isinstance(item, str) for item in value):
            raise InvalidInput("--change: a list of strings is needed", where=line)
        config[key] = value

    return apply


def _entrypoint(config: dict[str, Any], rest: str, line: str) -> None:
    _command("Entrypoint")(config, rest, line)
    config["Cmd"] = None  # "If CMD is defined from the base image, setting ENTRYPOINT will reset CMD"


def _text(key: str) -> Callable[[dict[str, Any], str, str], None]:
    def apply(config: dict[str, Any], rest: str, line: str) -> None:
        config[key] = rest

    return apply


def _workdir(config: dict[str, Any], rest: str, line: str) -> None:
    before = config.get("WorkingDir") or "/"
    config["WorkingDir"] = rest if rest.startswith("/") else f"{before.rstrip('/')}/{rest}"


def _words(rest: str, line: str) -> list[str]:
    try:
        return shlex.split(rest)
    except ValueError as error:
        raise InvalidInput(f"--change: {error}", where=line) from None


def _pairs(rest: str, line: str) -> list[tuple[str, str]]:
    """Reads ``A=b C="d e"``, or the old form ``A b``."""
    if "=" not in rest.split(None, 1)[0]:
        name, _, value = rest.partition(" ")
        if not value:
            raise InvalidInput("--change: NAME=VALUE is needed", where=line)
        return [(name, value.strip())]
    found = []
    for word in _words(rest, line):
        name, equals, value = word.partition("=")
        if not name or not equals:
            raise InvalidInput("--change: NAME=VALUE is needed", where=line)
        found.append((name, value))
    return found


def _env(config: dict[str, Any], rest: str, line: str) -> None:
    env = list(config.get("Env") or [])
    for name, value in _pairs(rest, line):
        index = next((index for index, item in enumerate(env) if item.split("=", 1)[0] == name), len(env))
        env[index : index + 1] = [f"{name}={value}"]
    config["Env"] = env


def _label(config: dict[str, Any], rest: str, line: str) -> None:
    config["Labels"] = dict(config.get("Labels") or {}) | dict(_pairs(rest, line))


def _expose(config: dict[str, Any], rest: str, line: str) -> None:
    ports = dict(config.get("ExposedPorts") or {})
    for word in rest.split():
        match = _PORT.match(word)
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (0, 0)
        if match is None or not 0 < first <= last <= _MAX_PORT:
            raise InvalidInput(f"--change: not a port: {word[:40]!r}", where=line, hint="write it as 80 or 53/udp")
        for port in range(first, last + 1):
            ports[f"{port}/{(match[3] or 'tcp').lower()}"] = {}
    config["ExposedPorts"] = ports


def _volume(config: dict[str, Any], rest: str, line: str) -> None:
    paths = jsonio.loads(rest, where=line) if rest.startswith("[") else _words(rest, line)
    if not all(isinstance(path, str) and path for path in paths):
        raise InvalidInput("--change: a list of paths is needed", where=line)
    config["Volumes"] = dict(config.get("Volumes") or {}) | {path: {} for path in paths}


_INSTRUCTIONS: dict[str, Callable[[dict[str, Any], str, str], None]] = {
    "CMD": _command("Cmd"),
    "ENTRYPOINT": _entrypoint,
    "ENV": _env,
    "EXPOSE": _expose,
    "LABEL": _label,
    "STOPSIGNAL": _text("StopSignal"),
    "USER": _text("User"),
    "VOLUME": _volume,
    "WORKDIR": _workdir,
}
