"""What differs between two states of a project, in the words of apps and files, not of hashes.

Pure: both states are values; the text of a file comes from a function. A phrase reads on its own: ``image web:1.0
(sha256:ab12...) -> web:1.1 (sha256:cd34...)``, ``environment TZ added: UTC``, ``port 8080:80/tcp removed``.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from wherry.core.digest import short
from wherry.core.units import format_size
from wherry.core.value import replace
from wherry.revision.files import Entry, Files, Kind
from wherry.spec.codec import encode
from wherry.spec.container import App, AppImage, Mount, PortMapping
from wherry.spec.revision import Revision

MAX_TEXT_BYTES = 256 * 1024
"""Files up to this are compared line by line."""

ReadText = Callable[[str], bytes | None]
"""A file's content by its path, at most ``MAX_TEXT_BYTES`` + 1 of it; the target for a link; None when it is gone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """One state of a project."""

    files: Files
    read: ReadText
    revision: Revision | None
    """None when there is no revision yet, or there cannot be one."""
    problem: str | None = None
    """Why there cannot be one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AppChange:
    """One app that differs."""

    app: str
    kind: str
    """``added``, ``removed`` or ``changed``."""
    changes: tuple[str, ...]
    """Phrases, one for each difference."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FileChange:
    """One file that differs."""

    path: str
    kind: str
    """``added``, ``removed``, ``changed``, ``mode`` (only its executable bit) or ``type`` (file against link)."""
    lines_added: int | None = None
    """None for what is not text, or is too long to compare."""
    lines_removed: int | None = None
    text: str = ""
    """A unified diff."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """All that differs between two states."""

    project: tuple[str, ...]
    """Phrases on name, target and health policy."""
    apps: tuple[AppChange, ...]
    files: tuple[FileChange, ...]
    problem: str | None = None
    """Why apps were not compared."""

    def __bool__(self) -> bool:
        return bool(self.project or self.apps or self.files)


def compare(old: State, new: State) -> Difference:
    """Returns what differs."""
    problem = old.problem or new.problem
    if problem is not None:
        return Difference(project=(), apps=(), files=tuple(_files(old, new)), problem=problem)
    return Difference(
        project=tuple(_project(old.revision, new.revision)),
        apps=tuple(_apps(old.revision, new.revision)),
        files=tuple(_files(old, new)),
    )


# --- files


def changed_paths(old: Files, new: Files) -> Iterator[tuple[str, str]]:
    """Gives path and kind of each file that differs, sorted by path."""
    for path in sorted({*old, *new}):
        before, after = old.get(path), new.get(path)
        if before is None:
            yield path, "added"
        elif after is None:
            yield path, "removed"
        elif before != after:
            yield path, _kind(before, after)


def _kind(before: Entry, after: Entry) -> str:
    if (before.kind is Kind.LINK) != (after.kind is Kind.LINK):
        return "type"
    return "changed"


def _files(old: State, new: State) -> Iterator[FileChange]:
    for path, kind in changed_paths(old.files, new.files):
        before = old.read(path) if path in old.files else b""
        after = new.read(path) if path in new.files else b""
        if before is None or after is None or not (_is_text(before) and _is_text(after)):
            yield FileChange(path=path, kind=kind)
            continue
        if before == after and path in old.files and path in new.files:
            yield FileChange(path=path, kind="mode" if kind == "changed" else kind)
            continue
        lines = list(_unified(path, before, after, kind))
        added = sum(line.startswith("+") for line in lines[2:])
        removed = sum(line.startswith("-") for line in lines[2:])
        yield FileChange(path=path, kind=kind, lines_added=added, lines_removed=removed, text="\n".join(lines))


def _is_text(data: bytes) -> bool:
    if len(data) > MAX_TEXT_BYTES or b"\0" in data:
        return False
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def _unified(path: str, before: bytes, after: bytes, kind: str) -> Iterator[str]:
    old_name = "/dev/null" if kind == "added" else f"a/{path}"
    new_name = "/dev/null" if kind == "removed" else f"b/{path}"
    old_lines, new_lines = _lines(before), _lines(after)
    for line in difflib.unified_diff(old_lines, new_lines, old_name, new_name, lineterm=""):
        yield from line.split("\n")


def _lines(data: bytes) -> list[str]:
    """Splits as diff does, and says as diff does when the last line has no end."""
    lines = data.decode().split("\n")
    if lines[-1]:
        lines[-1] += "\n\\ No newline at end of file"
    else:
        lines.pop()
    return lines


# --- the project and its apps


def _project(old: Revision | None, new: Revision | None) -> Iterator[str]:
    if old is None or new is None:
        return
    if old.name != new.name:
        yield f"name {old.name} -> {new.name}"
    if old.target != new.target:
        yield f"target {old.target or '(any)'} -> {new.target or '(any)'}"
    for key in ("timeout_ms", "stable_ms", "require_hub"):
        before, after = getattr(old.health, key), getattr(new.health, key)
        if before != after:
            yield f"health {key.removesuffix('_ms')} {_plain(key, before)} -> {_plain(key, after)}"


def _apps(old: Revision | None, new: Revision | None) -> Iterator[AppChange]:
    before = old.apps if old is not None else {}
    after = new.apps if new is not None else {}
    for name in sorted({*before, *after}):
        if name not in before:
            app = after[name]
            yield AppChange(app=name, kind="added", changes=tuple(describe_app(app)))
        elif name not in after:
            yield AppChange(app=name, kind="removed", changes=(f"image {image_text(before[name].image)}",))
        elif before[name] != after[name]:
            yield AppChange(app=name, kind="changed", changes=tuple(_app(before[name], after[name])))


def describe_app(app: App) -> Iterator[str]:
    """Gives a phrase for each thing that an app sets."""
    yield f"image {image_text(app.image)}"
    blank = App(image=app.image)
    for phrase in _app(replace(blank, config=app.config), app):
        yield phrase.replace(" added: ", " ").removesuffix(" added").replace(" (image's) -> ", " ")
    if app.config is not None:
        yield "files over /etc"


def _app(old: App, new: App) -> Iterator[str]:
    if old.image != new.image:
        yield f"image {image_text(old.image)} -> {image_text(new.image)}"
    for field in ("command", "entrypoint", "user", "working_dir"):
        before, after = getattr(old, field), getattr(new, field)
        if before != after:
            yield f"{field} {_words(before)} -> {_words(after)}"
    yield from _mapping("environment", old.environment, new.environment)
    yield from _set("port", map(port_text, old.ports), map(port_text, new.ports))
    yield from _set("mount", map(mount_text, old.mounts), map(mount_text, new.mounts))
    yield from _mapping("depends_on", old.depends_on, new.depends_on)
    yield from _object("healthcheck", old.healthcheck, new.healthcheck)
    yield from _object("restart", old.restart, new.restart)
    yield from _object("limit", old.resources, new.resources)
    yield from _set("cap_add", old.cap_add, new.cap_add)
    yield from _set("cap_drop", old.cap_drop, new.cap_drop)
    if old.read_only != new.read_only:
        yield f"read_only {str(old.read_only).lower()} -> {str(new.read_only).lower()}"
    if old.network_mode != new.network_mode:
        yield f"network_mode {old.network_mode} -> {new.network_mode}"
    if old.config != new.config:
        yield "config " + ("added" if old.config is None else "removed" if new.config is None else "changed")
    if old.extra != new.extra:
        yield f"further settings changed: {', '.join(sorted({*old.extra, *new.extra}))}"


def image_text(image: AppImage) -> str:
    """Returns an image for people: ``web:1.0 (sha256:ab12cd34ef56)``."""
    return f"{image.reference} (sha256:{short(image.digest)})" if image.digest else f"{image.reference} (not here)"


def port_text(port: PortMapping) -> str:
    """Returns a port as Compose's short form: ``8080:80/tcp``."""
    host = str(port.host_port) if port.host_port else ""
    if port.host_ip != "0.0.0.0":  # noqa: S104 docker's default
        return f"{port.host_ip}:{host}:{port.container_port}/{port.protocol}"
    return f"{host}:{port.container_port}/{port.protocol}" if host else f"{port.container_port}/{port.protocol}"


def mount_text(mount: Mount) -> str:
    """Returns a mount as Compose's short form: ``data:/var/lib/web:ro``."""
    text = f"{mount.source}:{mount.target}" if mount.source else f"tmpfs:{mount.target}"
    text += ":ro" if mount.read_only else ""
    if mount.tmpfs_size_bytes is not None:
        text += f" size {format_size(mount.tmpfs_size_bytes)}"
    return text if mount.tmpfs_mode is None else f"{text} mode {mount.tmpfs_mode:04o}"


def _mapping(label: str, old: Mapping[str, str], new: Mapping[str, str]) -> Iterator[str]:
    for key in sorted({*old, *new}):
        if key not in old:
            yield f"{label} {key} added: {new[key]}"
        elif key not in new:
            yield f"{label} {key} removed"
        elif old[key] != new[key]:
            yield f"{label} {key}: {old[key]} -> {new[key]}"


def _set(label: str, old: Iterator[str] | tuple[str, ...], new: Iterator[str] | tuple[str, ...]) -> Iterator[str]:
    before, after = list(old), list(new)
    for item in before:
        if item not in after:
            yield f"{label} {item} removed"
    for item in after:
        if item not in before:
            yield f"{label} {item} added"
    if sorted(before) == sorted(after) and before != after:
        yield f"{label}s in another order"


def _object(label: str, old: object, new: object) -> Iterator[str]:
    if old == new:
        return
    before, after = encode(old) or {}, encode(new) or {}
    if old is None or new is None:
        yield f"{label} {'added' if old is None else 'removed'}" + (f": {_fields(after)}" if new is not None else "")
        return
    for key in sorted({*before, *after}):
        if before.get(key) != after.get(key):
            yield f"{label} {_name(key)} {_plain(key, before.get(key))} -> {_plain(key, after.get(key))}"


def _fields(values: Mapping[str, object]) -> str:
    return ", ".join(f"{_name(key)} {_plain(key, value)}" for key, value in values.items())


def _name(key: str) -> str:
    return {"memory_bytes": "memory", "milli_cpus": "cpus"}.get(key, key.removesuffix("_ms"))


def _plain(key: str, value: object) -> str:
    if value is None:
        return "(default)"
    if key.endswith("_ms") and isinstance(value, int):
        return f"{value / 1000:g}s"
    if key == "memory_bytes" and isinstance(value, int):
        return format_size(value)
    if key == "milli_cpus" and isinstance(value, int):
        return f"{value / 1000:g}"
    if isinstance(value, bool):
        return str(value).lower()
    return " ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _words(value: object) -> str:
    if value is None:
        return "(image's)"
    if isinstance(value, str):
        return value
    import json

    return json.dumps(list(value), ensure_ascii=False) if isinstance(value, tuple) else str(value)
