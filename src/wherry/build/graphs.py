"""What a build has cost: time by step, space by package, folder and layer; as rows, which `charts.py` draws.

This module is pure but for `read_steps`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

from wherry.core.durable import map_os_error
from wherry.core.errors import InvalidInput, NotFound
from wherry.core.jsonio import loads
from wherry.spec.codec import decode

if TYPE_CHECKING:
    from pathlib import Path

    from wherry.build.legal.component import Component

STEPS_FILE = "steps.json"
MAX_STEPS_BYTES = 16 * 1024 * 1024
UNPACKAGED = "(no package)"
BASE = "(base system)"
_BARS = " ▏▎▍▌▋▊▉█"


class GraphKind(StrEnum):
    """What is looked at."""

    TIME = "time"
    SIZE = "size"
    LAYERS = "layers"


@dataclass(frozen=True, slots=True, kw_only=True)
class StepRow:
    """A step of the last build."""

    name: str
    what: str = ""
    key: str = ""
    layer: str = ""
    seconds: float = 0.0
    cached: bool = False
    size_bytes: int = 0
    needs: tuple[str, ...] = ()
    started_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A bar: a step, a package, a folder or a layer."""

    name: str
    value: float
    """Seconds or bytes."""
    start: float = 0.0
    """Seconds after the beginning of the build."""
    group: str = ""
    """What it is a part of: the folder that most of a package is in, the layer of a step."""
    note: str = ""
    muted: bool = False
    """Whether it cost nothing this time: a result that was kept."""
    parts: Mapping[str, float] = field(default_factory=dict)


def read_steps(work: Path) -> tuple[StepRow, ...]:
    """Returns the steps of a workspace's last build.

    Args:
        work: its ``.wherry``.

    Raises:
        NotFound: nothing was built there.
        InvalidInput: the file is malformed.
    """
    path = work / STEPS_FILE
    try:
        with open(path, "rb") as file:
            data = file.read(MAX_STEPS_BYTES + 1)
    except FileNotFoundError:
        raise NotFound(
            "nothing was built here", where=work.parent, hint="run `wherry host build` there first"
        ) from None
    except OSError as error:
        raise map_os_error(error, "cannot read", where=path) from error
    value = loads(data, where=path, max_bytes=MAX_STEPS_BYTES)
    if not isinstance(value, list):
        raise InvalidInput("must be a list of steps", where=path)
    return tuple(decode(StepRow, item, where=path) for item in value)


def time_rows(steps: Iterable[StepRow]) -> list[Row]:
    """Returns a row for each step, in the order in which they were taken."""
    return [
        Row(
            name=step.name,
            value=step.seconds,
            start=step.started_s,
            group=step.layer,
            note=step.what,
            muted=step.cached,
        )
        for step in steps
    ]


def size_rows(files: Mapping[str, int], owners: Mapping[str, str]) -> list[Row]:
    """Returns a row for each package, and for each top folder what is in no package; the largest first.

    Args:
        files: sizes in bytes by path.
        owners: which package a path belongs to.
    """
    sizes: dict[str, float] = defaultdict(float)
    folders: dict[str, dict[str, float]] = defaultdict(lambda: defaultdict(float))
    for path, size in files.items():
        top = _top(path)
        name = owners.get(path) or f"/{_top(path, 3)} {UNPACKAGED}"
        sizes[name] += size
        folders[name][f"/{top}"] += size
    rows = [
        Row(name=name, value=size, group=max(folders[name].items(), key=_largest)[0], parts=dict(folders[name]))
        for name, size in sizes.items()
        if size
    ]
    return sorted(rows, key=lambda row: (-row.value, row.name))


def folder_rows(files: Mapping[str, int]) -> list[Row]:
    """Returns a row for each top folder; of ``usr``, which has nearly all, for those below it."""
    sizes: dict[str, float] = defaultdict(float)
    for path, size in files.items():
        sizes[f"/{_top(path)}"] += size
    return sorted((Row(name=name, value=size) for name, size in sizes.items()), key=lambda row: (-row.value, row.name))


def _top(path: str, depth: int = 2) -> str:
    """Returns the folder that a file counts for: one of the top, but for ``usr``, which has nearly all."""
    folders = path.split("/")[:-1]
    return "/".join(folders[:depth] if folders[:1] == ["usr"] else folders[: depth - 1])


def _largest(item: tuple[str, float]) -> tuple[float, str]:
    return item[1], item[0]


def layer_rows(
    packages: Iterable[Row],
    wanted: Mapping[str, str],
    overlays: Sequence[tuple[str, int]] = (),
    layers: Sequence[str] = (),
) -> list[Row]:
    """Returns a row for each layer: what its packages and its overlay weigh; those without any are there, too.

    Args:
        packages: of `size_rows`.
        wanted: the layer that brought each package, by itself or through a dependency.
        overlays: a layer and the bytes of its overlay, each.
        layers: all of the chain, in order.
    """
    found: dict[str, dict[str, float]] = {name: {} for name in layers}
    for row in packages:
        if row.name.endswith(UNPACKAGED):
            continue
        parts = found.setdefault(wanted.get(row.name, BASE), {})
        parts[row.name] = parts.get(row.name, 0) + row.value
    for layer, size in overlays:
        parts = found.setdefault(layer, {})
        parts["root_overlay"] = parts.get("root_overlay", 0) + size
    rows = [
        Row(name=name, value=sum(parts.values()), parts=parts, note=_largest_of(parts)) for name, parts in found.items()
    ]
    return [row for row in rows if row.name == BASE] + [row for row in rows if row.name != BASE]


def _largest_of(parts: Mapping[str, float]) -> str:
    names = [name for name, _ in sorted(parts.items(), key=_largest, reverse=True)[:3]]
    return ", ".join(names) + (" …" if len(parts) > 3 else "")


def wanted_by_layer(components: Iterable[Component], lines: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Returns the layer that each package is there for: the first one that wants it, or that leads to it soonest.

    Args:
        components: of the host.
        lines: package and layer, each, in the order of the chain.
    """
    by_key = {item.key: item for item in components}
    by_name = {item.name: item for item in by_key.values()}
    found: dict[str, str] = {}
    pending: list[Component] = []
    for name, layer in lines:
        item = by_name.get(name.split(":")[0])
        if item is not None and item.name not in found:
            found[item.name] = layer
            pending.append(item)
    for item in pending:
        for key in item.depends:
            below = by_key.get(key)
            if below is not None and below.name not in found:
                found[below.name] = found[item.name]
                pending.append(below)
    return found


def bar(value: float, largest: float, width: int) -> str:
    """Returns a bar of at most `width` characters, exact to an eighth of one."""
    eighths = round(8 * width * value / largest) if largest > 0 else 0
    if value > 0:
        eighths = max(eighths, 1)
    full, rest = divmod(eighths, 8)
    return "█" * full + (_BARS[rest] if rest else "")


def step_dot(steps: Iterable[StepRow]) -> str:
    """Returns the steps and what each needs, for graphviz."""
    every = list(steps)
    lines = ["digraph build {", "  rankdir=LR;", '  node [shape=box, style=rounded, fontname="sans-serif"];']
    for step in every:
        time = "kept" if step.cached else f"{step.seconds:.1f} s"
        lines.append(f'  {_quoted(step.name)} [label={_quoted(step.name)[:-1]}\\n{time}"];')
    lines += [f"  {_quoted(need)} -> {_quoted(step.name)};" for step in every for need in step.needs]
    return "\n".join([*lines, "}", ""])


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
