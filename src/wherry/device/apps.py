"""Apps of a revision as containers: names, labels, fingerprints, and the order in which they start.

A container belongs to an app *and* its fingerprint, the checksum of everything about the app that a running
container cannot change. Two revisions whose apps have one fingerprint share one container, which is why an
update restarts only what changed, and why a container is found again after any crash: its name says it all.
Pure; it touches nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from wherry.core import jsonio
from wherry.core.digest import Checksum, parse_checksum
from wherry.core.errors import InvalidInput
from wherry.core.value import replace
from wherry.device.interfaces import Container
from wherry.engine.spec import ContainerSpec
from wherry.spec.codec import encode
from wherry.spec.container import App, RestartName
from wherry.spec.revision import Revision

LABEL_APP = "io.wherry.device.app"
LABEL_FINGERPRINT = "io.wherry.device.fingerprint"
LABEL_REVISION = "io.wherry.device.revision"
MAX_APPS = 200
"""A report to the hub names no more."""
_NAME_DIGITS = 12

STARTED = "service_started"
HEALTHY = "service_healthy"
COMPLETED = "service_completed_successfully"
CONDITIONS = frozenset({STARTED, HEALTHY, COMPLETED})


@dataclass(frozen=True, slots=True, kw_only=True)
class AppKey:
    """What a container is for: an app as it stands in one or more revisions."""

    app: str
    fingerprint: str

    @property
    def container_name(self) -> str:
        """The name of its only container."""
        return f"{self.app}-{self.fingerprint[:_NAME_DIGITS]}"


def fingerprint(app: App) -> str:
    """Returns the checksum of what a restart is needed to change.

    The image's commit counts, not the words it was named by; the order of start does not count.
    """
    image = replace(app.image, reference="", digest="")
    return hashlib.sha256(jsonio.canonical(encode(replace(app, image=image, depends_on={})))).hexdigest()


def key_of(name: str, app: App) -> AppKey:
    """Returns the key of one app."""
    return AppKey(app=name, fingerprint=fingerprint(app))


def keys_of(revision: Revision) -> dict[str, AppKey]:
    """Returns the key of every app of a revision, by the app's name."""
    return {name: key_of(name, app) for name, app in revision.apps.items()}


def key_of_container(container: Container) -> AppKey | None:
    """Returns what a container is for; None when it is none of the device's."""
    app, digest = container.labels.get(LABEL_APP), container.labels.get(LABEL_FINGERPRINT)
    return None if app is None or digest is None else AppKey(app=app, fingerprint=digest)


def by_key(containers: Iterable[Container]) -> dict[AppKey, Container]:
    """Returns the device's containers by what they are for."""
    found: dict[AppKey, Container] = {}
    for container in containers:
        key = key_of_container(container)
        if key is not None:
            found[key] = container
    return found


def spec_of(name: str, app: App, *, revision: Checksum, config: Path | None) -> ContainerSpec:
    """Returns the container that an app asks for.

    Args:
        name: the app's.
        app: from the revision.
        revision: the one that it is made for first.
        config: its laid out configuration, if it has one.
    """
    key = key_of(name, app)
    return ContainerSpec(
        image=app.image.commit,
        name=key.container_name,
        args=app.command,
        entrypoint=app.entrypoint,
        env=app.environment,
        mounts=app.mounts,
        ports=app.ports,
        network=app.network_mode,
        aliases=(name,) if app.network_mode == "bridge" else (),
        hostname="" if app.network_mode == "host" else _hostname(name),
        resources=app.resources,
        cap_add=app.cap_add,
        cap_drop=app.cap_drop,
        user=app.user,
        working_dir=app.working_dir,
        read_only=app.read_only,
        restart=app.restart,
        healthcheck=app.healthcheck,
        labels={LABEL_APP: name, LABEL_FINGERPRINT: key.fingerprint, LABEL_REVISION: revision},
        layers=() if config is None else (str(config),),
    )


def start_order(revision: Revision) -> tuple[str, ...]:
    """Returns the apps so that each comes after those it depends on; else by name.

    Raises:
        InvalidInput: apps wait for each other, a condition is unknown, or there are too many apps.
    """
    if len(revision.apps) > MAX_APPS:
        raise InvalidInput(f"{len(revision.apps)} apps are more than the limit of {MAX_APPS}", where=revision.name)
    waiting: dict[str, set[str]] = {}
    for name, app in sorted(revision.apps.items()):
        for other, condition in app.depends_on.items():
            if condition not in CONDITIONS:
                raise InvalidInput(f"unknown condition {condition!r}", where=f"apps.{name}.depends_on.{other}")
        waiting[name] = set(app.depends_on)
    order: list[str] = []
    while waiting:
        ready = [name for name, others in waiting.items() if not others]
        if not ready:
            circle = ", ".join(sorted(waiting))
            raise InvalidInput(f"these apps wait for each other: {circle}", where=f"{revision.name}: depends_on")
        for name in ready:
            del waiting[name]
            order.append(name)
        for others in waiting.values():
            others.difference_update(ready)
    return tuple(order)


def config_of(app: App) -> Checksum | None:
    """Returns the checksum of the app's configuration tree, checked, as it becomes a folder's name.

    Raises:
        InvalidInput: it is not a checksum.
    """
    return None if app.config is None else parse_checksum(app.config, where="config")


def is_one_shot(app: App) -> bool:
    """Tells whether the app may end well: nothing starts it again when its status is 0."""
    return app.restart.name in (RestartName.NO, RestartName.ON_FAILURE)


def _hostname(name: str) -> str:
    return name.replace("_", "-").strip("-.")[:63].strip("-.")
