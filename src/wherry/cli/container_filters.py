"""The filters of ``ps``: docker's keys and meanings. Pure, but for `Surroundings`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING

from wherry.cli.container_list import STATUSES, short_image
from wherry.core.errors import UsageError
from wherry.core.value import Value

if TYPE_CHECKING:
    from wherry.engine.engine import Engine
    from wherry.engine.info import ContainerInfo

KEYS = (
    *("ancestor", "before", "exited", "expose", "health", "id", "label"),
    *("name", "network", "publish", "since", "status", "volume"),
)
ENDED_ONLY = frozenset({"status", "exited"})
"""Keys that ask for containers that do not run as well, with ``--all`` or without."""
PROTOCOLS = ("tcp", "udp")


def _nothing(_info: ContainerInfo) -> tuple[str, ...]:
    return ()


def _never(_name: str) -> float:
    return 0.0


class Surroundings(Value):
    """What of other things a filter needs to know."""

    names: Callable[[ContainerInfo], tuple[str, ...]] = _nothing
    """The names of a container's networks."""
    ids: Callable[[], Mapping[str, str]] = dict
    """All networks: name -> id."""
    created_s: Callable[[str], float] = _never
    """When a container was made."""

    @classmethod
    def of(cls, engine: Engine) -> Surroundings:
        """Returns those of an engine."""
        from wherry.engine.net import connections, registry

        def names(info: ContainerInfo) -> tuple[str, ...]:
            found = connections.attachments(engine.paths, info.config)
            return tuple(item.network for item in found) or (info.config.spec.network,)

        return cls(
            names=names,
            ids=lambda: {item.name: item.id for item in registry.every(engine.paths)},
            created_s=lambda name: engine.inspect(name).created_s,
        )


def parse_filters(items: Iterable[str]) -> dict[str, list[str]]:
    """Returns filters by key.

    Raises:
        UsageError: a key is not one of `KEYS`, or its value cannot be meant.
    """
    filters: dict[str, list[str]] = {}
    for item in items:
        key, equals, value = item.partition("=")
        if not equals or key not in KEYS:
            known = f"{', '.join(f'{name}=' for name in KEYS[:-1])} or {KEYS[-1]}="
            raise UsageError(f"--filter: {item!r} is not supported", hint=f"use {known}")
        if key == "status" and value not in STATUSES:
            raise UsageError(f"--filter: no status {value!r}", hint=f"use {', '.join(STATUSES)}")
        if key == "exited" and not (value.isascii() and value.isdigit()):
            raise UsageError(f"--filter: not an exit status: {value!r}", hint="write it as exited=0")
        if key in ("publish", "expose"):
            _ports(value)
        filters.setdefault(key, []).append(value)
    return filters


def matches(info: ContainerInfo, filters: Mapping[str, list[str]], around: Surroundings | None = None) -> bool:
    """Tells whether a container passes: every label, and one of the values of each other key.

    Raises:
        NotFound: ``before`` or ``since`` name no container.
    """
    around = around or Surroundings()
    for text in filters.get("label", ()):
        key, equals, value = text.partition("=")
        if key not in info.labels or (equals and info.labels[key] != value):
            return False
    spec = info.config.spec
    tests: dict[str, Callable[[str], bool]] = {
        "name": lambda value: value.removeprefix("/") in info.name,
        "status": lambda value: value == info.status,
        "health": lambda value: value == (info.health or "none"),
        "id": info.id.startswith,
        "exited": lambda value: info.status == "exited" and info.exit_code == int(value),
        "before": lambda value: info.created_s < around.created_s(value),
        "since": lambda value: info.created_s > around.created_s(value),
        "volume": lambda value: any(value in (item.source, item.target) for item in info.config.mounts),
        "network": lambda value: value in (names := around.names(info)) or _has_id(value, names, around.ids()),
        "publish": lambda value: any(_in_range(value, port.host_port, port.protocol) for port in info.ports),
        "expose": lambda value: (
            any(_in_range(value, port.container_port, port.protocol) for port in info.ports)
            or any(_overlap(value, text) for text in spec.expose)
        ),
        "ancestor": lambda value: (
            value in (info.image, short_image(info.image), short_image(info.image).removesuffix(":latest"), info.commit)
            or info.commit.startswith(value)
        ),
    }
    return all(any(test(value) for value in filters[key]) for key, test in tests.items() if key in filters)


def _has_id(text: str, names: Iterable[str], ids: Mapping[str, str]) -> bool:
    return len(text) > 1 and any(ids.get(name, "").startswith(text) for name in names)


def _ports(text: str) -> tuple[int, int, str]:
    """Returns first, last and protocol of ``80``, ``53/udp`` or ``8000-8010/tcp``."""
    numbers, _, protocol = text.partition("/")
    first, dash, last = numbers.partition("-")
    digits = all(number.isascii() and number.isdigit() for number in ((first, last) if dash else (first,)))
    if not digits or protocol not in ("", *PROTOCOLS):
        raise UsageError(f"--filter: not a port: {text!r}", hint="write it as 80, 53/udp or 8000-8010")
    return int(first), int(last or first), protocol or "tcp"


def _in_range(wanted: str, number: int, protocol: str) -> bool:
    first, last, kind = _ports(wanted)
    return first <= number <= last and kind == protocol


def _overlap(wanted: str, exposed: str) -> bool:
    first, last, kind = _ports(exposed)
    return any(_in_range(wanted, number, kind) for number in range(first, last + 1))
