"""From what a project says to what a revision pins: services and their images become apps.

Pure: the images come from a function that the caller gives, the files from a mapping. ``wherry commit`` looks images
up and fails on the first that is missing; ``status`` and ``diff`` give a function that never fails.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from wherry.core.digest import Checksum, Digest
from wherry.core.errors import InvalidInput
from wherry.core.value import replace
from wherry.revision.compose import ComposeFile, Service
from wherry.revision.files import CONFIG_FOLDER, Entry, Files, tree_checksum
from wherry.revision.manifest import Manifest
from wherry.spec.container import App, AppImage, Healthcheck
from wherry.spec.revision import FORMAT, Revision


@dataclass(frozen=True, slots=True, kw_only=True)
class ImagePin:
    """What a name of an image means here and now."""

    commit: Checksum
    digest: Digest
    healthcheck: tuple[str, ...] | None = None
    """The image's own test, for a ``healthcheck:`` without one; None when it is not known here."""


FindImage = Callable[[Service], ImagePin]


def build_revision(manifest: Manifest, compose: ComposeFile, files: Files, find_image: FindImage) -> Revision:
    """Returns the revision of a project.

    Args:
        manifest: its ``wherry.yaml``.
        compose: its ``compose.yaml``.
        files: all its files; those in ``config/`` are what counts here.
        find_image: looks one service's image up.

    Raises:
        InvalidInput: the two files name two projects, a file in ``config/`` belongs to no app, or a health check
            has no test.
    """
    if compose.name is not None and compose.name != manifest.name:
        raise InvalidInput(
            f"two names: {compose.name!r} in compose.yaml, {manifest.name!r} in wherry.yaml",
            where="compose.yaml: name",
            hint="leave the name out of compose.yaml",
        )
    config = config_folders(files)
    for name, inner in config.items():
        if name not in compose.services:
            first = f"{CONFIG_FOLDER}/{name}/{min(inner)}"
            raise InvalidInput(
                f"{CONFIG_FOLDER}/{name}/ belongs to no app of compose.yaml", where=first, hint=_config_hint(compose)
            )
    pins = {name: find_image(service) for name, service in sorted(compose.services.items())}
    _check_health_is_known(compose, pins)
    apps = {name: _app(name, compose.services[name], pin, config.get(name)) for name, pin in pins.items()}
    return Revision(format=FORMAT, name=manifest.name, target=manifest.target, apps=apps, health=manifest.health)


def config_folders(files: Files) -> dict[str, Files]:
    """Returns the files of ``config/<app>/`` by app, with paths relative to that folder.

    Raises:
        InvalidInput: a file lies in ``config/`` itself.
    """
    found: dict[str, dict[str, Entry]] = {}
    for path, entry in files.items():
        first, _, rest = path.partition("/")
        if first != CONFIG_FOLDER:
            continue
        app, slash, inner = rest.partition("/")
        if not slash:
            raise InvalidInput(
                "a file in config/ belongs to an app",
                where=path,
                hint=f"move it to {CONFIG_FOLDER}/APP/; it will lie in /etc of that app",
            )
        found.setdefault(app, {})[inner] = entry
    return dict(found)


def _app(name: str, service: Service, pin: ImagePin, config: Files | None) -> App:
    return App(
        image=AppImage(reference=service.image, commit=pin.commit, digest=pin.digest),
        command=service.command,
        entrypoint=service.entrypoint,
        environment=service.environment,
        ports=service.ports,
        mounts=service.mounts,
        user=service.user,
        working_dir=service.working_dir,
        depends_on=service.depends_on,
        healthcheck=_healthcheck(name, service.healthcheck, pin),
        restart=service.restart,
        resources=service.resources,
        cap_add=service.cap_add,
        cap_drop=service.cap_drop,
        read_only=service.read_only,
        network_mode=service.network_mode,
        config=tree_checksum(config) if config else None,
    )


def _healthcheck(name: str, check: Healthcheck | None, pin: ImagePin) -> Healthcheck | None:
    if check is None or check.test or pin.healthcheck is None:
        return check
    if not pin.healthcheck or pin.healthcheck == ("NONE",):
        raise InvalidInput(
            "the health check has no test, and the image brings none",
            where=f"compose.yaml: services.{name}.healthcheck",
            hint="add test:",
        )
    return replace(check, test=pin.healthcheck)


def _check_health_is_known(compose: ComposeFile, pins: Mapping[str, ImagePin]) -> None:
    """Refuses to wait for the health of an app that has no health check: that would never come."""
    for name, service in compose.services.items():
        for other, condition in service.depends_on.items():
            if condition != "service_healthy" or compose.services[other].healthcheck is not None:
                continue
            if pins[other].healthcheck in ((), ("NONE",)):
                raise InvalidInput(
                    f"{other} has no health check, and neither has its image",
                    where=f"compose.yaml: services.{name}.depends_on.{other}",
                    hint=f"give {other} a healthcheck:, or wait for service_started",
                )


def _config_hint(compose: ComposeFile) -> str:
    apps = ", ".join(sorted(compose.services)) or "none yet"
    return f"the apps are: {apps}; files for the host itself need a host system, which this version does not have"
