"""The flags that stand between an instruction's name and its arguments.

Refused by name, with the reason: what belongs to docker's labs channel or to a builder with entitlements. A flag that
no instruction has is named, beside the nearest one.

Source: Dockerfile reference, the table of options of each instruction.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum

from wherry.image.dockerfile.problems import Place, nearest

MAX_FLAGS = 1000


class FlagKind(Enum):
    """What a flag takes."""

    SWITCH = "switch"
    """Nothing, ``true`` or ``false``."""
    VALUE = "value"
    VALUES = "values"
    """A value each time that it is given."""


_COPIES = {
    "chown": FlagKind.VALUE,
    "chmod": FlagKind.VALUE,
    "link": FlagKind.SWITCH,
    "exclude": FlagKind.VALUES,
}
FLAGS: Mapping[str, Mapping[str, FlagKind]] = {
    "FROM": {"platform": FlagKind.VALUE},
    "RUN": {"mount": FlagKind.VALUES, "network": FlagKind.VALUE},
    "COPY": {"from": FlagKind.VALUE, "parents": FlagKind.SWITCH} | _COPIES,
    "ADD": {"checksum": FlagKind.VALUE, "keep-git-dir": FlagKind.SWITCH, "unpack": FlagKind.SWITCH} | _COPIES,
    "HEALTHCHECK": dict.fromkeys(("interval", "timeout", "start-period", "start-interval", "retries"), FlagKind.VALUE),
}
REFUSED: Mapping[tuple[str, str], str] = {
    ("RUN", "security"): "a build never runs with more privileges than the one who builds; remove the flag",
    ("RUN", "device"): "it is in docker's labs channel, and devices of the host are not for builds; remove the flag",
    ("ADD", "from"): "ADD copies from the context, a URL or a Git repository; write COPY --from",
    ("ADD", "parents"): "only COPY has it; write COPY --parents",
}
"""Flags that are known and not taken, with what to do instead."""


class Flags:
    """The flags of one instruction, each asked for by its name."""

    def __init__(self, keyword: str, words: tuple[str, ...], place: Place) -> None:
        self._found: dict[str, list[str]] = {}
        known = FLAGS.get(keyword, {})
        if len(words) > MAX_FLAGS:
            raise place.error(f"{keyword}: more than {MAX_FLAGS} flags")
        for word in words:
            name, equals, value = word[2:].partition("=")
            if (keyword, name) in REFUSED:
                raise place.error(f"{keyword}: --{name} is refused", REFUSED[keyword, name])
            kind = known.get(name)
            if kind is None:
                raise place.error(f"{keyword}: unknown flag --{name[:60]}", _hint(keyword, name))
            if name in self._found and kind is not FlagKind.VALUES:
                raise place.error(f"{keyword}: --{name} is given twice", "keep one of them")
            if kind is FlagKind.SWITCH:
                if equals and value.lower() not in ("true", "false"):
                    raise place.error(f"{keyword}: --{name} is true or false, got {value[:40]!r}")
            elif not equals:
                raise place.error(f"{keyword}: --{name} needs a value", f"write it as --{name}=VALUE, with no space")
            self._found.setdefault(name, []).append(value)

    def text(self, name: str) -> str:
        """Returns the value of a flag, "" when it is not given."""
        return self._found.get(name, [""])[0]

    def texts(self, name: str) -> tuple[str, ...]:
        """Returns the values of a flag that may stand several times."""
        return tuple(self._found.get(name, ()))

    def switch(self, name: str) -> bool | None:
        """Returns whether a switch is on, None when it is not given."""
        return None if name not in self._found else self._found[name][0].lower() != "false"


def _hint(keyword: str, name: str) -> str:
    known = FLAGS.get(keyword, {})
    if not known:
        return f"{keyword} has no flags; write the arguments as a JSON list if one shall begin with --"
    listed = " ".join(f"--{item}" for item in known)
    return nearest(name, known, "--") or f"{keyword} takes {listed}"
