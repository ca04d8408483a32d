"""``revision.json``: the state of a whole device, in one canonical JSON document.

It lies at the root of the revision's commit beside ``wherry.yaml``, ``compose.yaml`` and ``config/``, and pins
every component. Whoever trusts the commit's signature trusts, through the checksums in here, every byte that
the device will run. Unknown fields survive a round trip, so that an older tool does not lose what a newer one
wrote. Format version 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from wherry.core import jsonio
from wherry.core.digest import parse_checksum
from wherry.core.errors import InvalidInput, Unsupported
from wherry.spec.codec import decode, encode
from wherry.spec.container import App

FORMAT = 1
FILE_NAME = "revision.json"
MAX_REVISION_BYTES = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthPolicy:
    """When a candidate counts as healthy (``health:`` in wherry.yaml)."""

    timeout_ms: int = 120_000
    """By then every app must be up and every health check must pass."""
    stable_ms: int = 5_000
    """How long all must stay well, without a restart, before the candidate is committed."""
    require_hub: bool = True
    """Whether the hub must be reached from the candidate."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Revision:
    """The state of a whole device."""

    format: int
    name: str
    """The project's name."""
    target: str = ""
    """What it is for: board and architecture, as in ``amd64``; empty fits all."""
    apps: Mapping[str, App] = field(default_factory=dict)
    health: HealthPolicy = field(default_factory=HealthPolicy)
    extra: Mapping[str, Any] = field(default_factory=dict)

    def components(self) -> tuple[str, ...]:
        """Returns the commits that this revision is made of, sorted, each once."""
        return tuple(sorted({app.image.commit for app in self.apps.values()}))


def parse_revision(data: bytes, *, where: object = FILE_NAME) -> Revision:
    """Parses ``revision.json``.

    Raises:
        InvalidInput: it is malformed.
        Unsupported: it is of a newer format.
    """
    value = jsonio.loads(data, where=where, max_bytes=MAX_REVISION_BYTES)
    if isinstance(value, dict) and isinstance(value.get("format"), int) and value["format"] > FORMAT:
        raise Unsupported(
            f"revision format {value['format']} is newer than {FORMAT}", where=where, hint="update Wherry first"
        )
    revision = decode(Revision, value, where=where)
    for name, app in revision.apps.items():
        parse_checksum(app.image.commit, where=f"{where}: apps.{name}.image.commit")
        for other in app.depends_on:
            if other not in revision.apps:
                raise InvalidInput(f"apps.{name}.depends_on: no app {other!r}", where=where)
    return revision


def serialize_revision(revision: Revision) -> bytes:
    """Returns the canonical bytes of ``revision.json``."""
    return jsonio.canonical(encode(revision))
