"""The configuration of an image: what to run, as whom, where and with which environment.

The bytes of the JSON are kept as they came, because their digest is the image's identity; what Wherry reads of
them is checked here, and all else survives. A config that changes is written anew as canonical JSON.

Source: OCI image-spec 1.1, config.md; docker's additions (Healthcheck, Shell) from moby's image/spec/v1.2.md.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from wherry.core import jsonio
from wherry.core.digest import Digest, parse_digest
from wherry.core.errors import InvalidInput
from wherry.spec.container import Healthcheck

MAX_CONFIG_BYTES = 4 * 1024 * 1024
MAX_LAYERS = 512
EPOCH = "1970-01-01T00:00:00Z"

_CREATED = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.\d+)?(Z|[+-]\d\d:\d\d)\Z")
_NS_PER_MS = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageConfig:
    """An image's config. None for `entrypoint` and `cmd` means: not set."""

    architecture: str = ""
    os: str = "linux"
    variant: str = ""
    created: str = EPOCH
    """RFC 3339, as it was written."""
    entrypoint: tuple[str, ...] | None = None
    cmd: tuple[str, ...] | None = None
    env: tuple[str, ...] = ()
    """``NAME=VALUE`` each."""
    user: str = ""
    working_dir: str = ""
    exposed_ports: tuple[str, ...] = ()
    """``80/tcp`` each, sorted."""
    volumes: tuple[str, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    stop_signal: str = ""
    healthcheck: Healthcheck | None = None
    diff_ids: tuple[Digest, ...] = ()
    """The digests of the uncompressed layers, the lowest first."""
    raw: bytes = field(default=b"{}", repr=False)
    """The JSON, as it came."""

    @property
    def digest(self) -> Digest:
        """The digest of the JSON: docker's image ID."""
        return Digest("sha256:" + hashlib.sha256(self.raw).hexdigest())

    @property
    def created_s(self) -> int:
        """When it was made, in seconds since 1970; 0 when it does not say."""
        return parse_time(self.created)

    @property
    def platform(self) -> str:
        """``linux/arm/v7``."""
        return "/".join(part for part in (self.os, self.architecture, self.variant) if part)

    def document(self) -> dict[str, Any]:
        """Returns the JSON as a value of its own that the caller may change."""
        found = jsonio.loads(self.raw, max_bytes=MAX_CONFIG_BYTES)
        return found if isinstance(found, dict) else {}


def parse_config(raw: bytes, *, where: object = None) -> ImageConfig:
    """Reads an image's config.

    Args:
        raw: the JSON.
        where: the file or blob that it comes from, for errors.

    Raises:
        InvalidInput: it is not one, or a part that Wherry reads is malformed; names the part.
    """
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        raise InvalidInput("not JSON in UTF-8", where=where) from None
    reader = _Reader(jsonio.loads(text, where=where, max_bytes=MAX_CONFIG_BYTES), "", where)
    config = reader.part("config")
    rootfs = reader.part("rootfs")
    diff_ids = rootfs.strings("diff_ids") or ()
    if len(diff_ids) > MAX_LAYERS:
        raise InvalidInput(f"more than {MAX_LAYERS} layers", where=where)
    created = reader.text("created") or EPOCH
    parse_time(created, where=where)
    env = config.strings("Env") or ()
    for item in env:
        if "=" not in item[1:]:
            raise InvalidInput(f"config.Env: not NAME=VALUE: {item[:80]!r}", where=where)
    return ImageConfig(
        architecture=reader.text("architecture"),
        os=reader.text("os") or "linux",
        variant=reader.text("variant"),
        created=created,
        entrypoint=config.strings("Entrypoint"),
        cmd=config.strings("Cmd"),
        env=env,
        user=config.text("User"),
        working_dir=config.text("WorkingDir"),
        exposed_ports=tuple(sorted(config.mapping("ExposedPorts"))),
        volumes=tuple(sorted(config.mapping("Volumes"))),
        labels={name: config.label(name, value) for name, value in config.mapping("Labels").items()},
        stop_signal=config.text("StopSignal"),
        healthcheck=_healthcheck(config),
        diff_ids=tuple(parse_digest(digest, where=where) for digest in diff_ids),
        raw=raw,
    )


def make_config(document: Mapping[str, Any], *, where: object = None) -> ImageConfig:
    """Returns the config that is this JSON value, written canonically.

    Raises:
        InvalidInput: a part of it is malformed.
    """
    return parse_config(jsonio.canonical(document), where=where)


def parse_time(text: str, *, where: object = None) -> int:
    """Returns an RFC 3339 time in whole seconds since 1970; a time before that (Go's zero time) is 0.

    Raises:
        InvalidInput: it is no such time.
    """
    match = _CREATED.match(text)
    try:
        if match is None:
            raise ValueError(text)
        zone = "+00:00" if match[2] == "Z" else match[2]
        return max(0, int(datetime.fromisoformat(match[1] + zone).astimezone(UTC).timestamp()))
    except (ValueError, OverflowError):
        raise InvalidInput(f"not a time in RFC 3339: {text[:60]!r}", where=where) from None


def _healthcheck(config: _Reader) -> Healthcheck | None:
    reader = config.part("Healthcheck")
    test = reader.strings("Test")
    if not test:
        return None
    default = Healthcheck(test=test)
    return Healthcheck(
        test=test,
        interval_ms=reader.nanoseconds("Interval") or default.interval_ms,
        timeout_ms=reader.nanoseconds("Timeout") or default.timeout_ms,
        retries=reader.number("Retries") or default.retries,
        start_period_ms=reader.nanoseconds("StartPeriod"),
    )


class _Reader:
    """One JSON object, read with the path in the error. A key that is absent and one that is null are the same."""

    def __init__(self, value: Any, path: str, where: object) -> None:
        self._path, self._where = path, where
        if not isinstance(value, dict):
            raise self._wrong("", "an object")
        self._value: dict[str, Any] = value

    def _wrong(self, key: str, wanted: str) -> InvalidInput:
        path = f"{self._path}{key}".rstrip(".")
        return InvalidInput(f"{path}: must be {wanted}" if path else f"must be {wanted}", where=self._where)

    def part(self, key: str) -> _Reader:
        value = self._value.get(key)
        return _Reader({} if value is None else value, f"{self._path}{key}.", self._where)

    def text(self, key: str) -> str:
        value = self._value.get(key)
        if value is not None and (not isinstance(value, str) or "\0" in value):
            raise self._wrong(key, "a string")
        return value or ""

    def strings(self, key: str) -> tuple[str, ...] | None:
        value = self._value.get(key)
        if isinstance(value, str):  # docker's oldest images have a string here
            value = [value]
        if value is None:
            return None
        if not isinstance(value, list) or not all(isinstance(item, str) and "\0" not in item for item in value):
            raise self._wrong(key, "a list of strings")
        return tuple(value)

    def mapping(self, key: str) -> dict[str, Any]:
        value = self._value.get(key)
        if value is not None and not isinstance(value, dict):
            raise self._wrong(key, "an object")
        return value or {}

    def label(self, name: str, value: Any) -> str:
        if not isinstance(value, str):
            raise self._wrong(f"Labels.{name}", "a string")
        return value

    def number(self, key: str) -> int:
        value = self._value.get(key)
        if value is None:
            return 0
        if not isinstance(value, int) or isinstance(value, bool) or value < 0:
            raise self._wrong(key, "a whole number, 0 or more")
        return value

    def nanoseconds(self, key: str) -> int:
        """Returns a duration in milliseconds, one at least unless it is 0."""
        return -(-self.number(key) // _NS_PER_MS)
