"""How the command line reaches registries: settings, credentials, certificates; the environment is read here."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from wherry.cli.context import Settings, settings
from wherry.cli.output import note

if TYPE_CHECKING:
    from collections.abc import Callable

    from wherry.image.reference import Reference
    from wherry.image.registry.client import RegistryClient
    from wherry.image.registry.credentials import CredentialFile
    from wherry.image.registry.hosts import Hosts

SYSTEM_FILE = Path("/etc/wherry/registries.yaml")


@dataclass(frozen=True, slots=True, kw_only=True)
class RegistryOptions:
    """What the options of a command say about registries."""

    current: Settings
    authfile: Path | None = None
    insecure: tuple[str, ...] = ()
    ca: Path | None = None
    cert_dir: Path | None = None

    def hosts(self) -> Hosts:
        """Returns what is known of registries."""
        from wherry.image.registry.hosts import Hosts

        return Hosts.read(
            self.current.root / "registries.yaml",
            SYSTEM_FILE,
            insecure=self.insecure,
            ca=self.ca,
            certificate_folder=self.cert_dir,
        )

    def credentials(self) -> list[CredentialFile]:
        """Returns the files in which credentials are looked for; the first is where new ones go."""
        from wherry.image.registry.credentials import CredentialFile

        return [CredentialFile(path, os.environ) for path in credential_paths(self.authfile)]

    @contextmanager
    def clients(self, domain: str, *, mirrors: bool = True) -> Iterator[list[RegistryClient]]:
        """Gives the clients of a registry's mirrors, and last that of the registry itself."""
        from wherry.image.registry.client import RegistryClient

        host = self.hosts().find(domain)
        files = self.credentials()
        found = []
        try:
            for each in (*(host.mirrors if mirrors else ()), host):

                def known(repository: str, name: str = each.name) -> Any:
                    return next((item for file in files if (item := file.get(name, repository)) is not None), None)

                found.append(RegistryClient(each, known, say=lambda text: note(text, quiet=self.current.quiet)))
            yield found
        finally:
            for client in found:
                client.close()


def credential_paths(given: Path | None) -> list[Path]:
    """Returns where credentials may lie: docker's file, or the one that is named; then podman's."""
    if given is not None:
        return [given]
    if named := os.environ.get("REGISTRY_AUTH_FILE"):
        return [Path(named)]
    home = Path(os.environ.get("HOME") or "/root")
    folder = Path(os.environ.get("DOCKER_CONFIG") or home / ".docker")
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    others = [Path(runtime) / "containers/auth.json"] if runtime else []
    return [folder / "config.json", *others, home / ".config/containers/auth.json"]


def registry_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds the options of all commands that speak to registries; they arrive as one `registries`."""
    from functools import wraps

    @click.option("--authfile", type=click.Path(path_type=Path), metavar="FILE", help="Credentials, as docker's.")
    @click.option("--insecure-registry", "insecure", multiple=True, metavar="HOST[:PORT]", help="May be plain HTTP.")
    @click.option(
        "--ca", type=click.Path(path_type=Path, exists=True, dir_okay=False), metavar="FILE", help="Trust only this CA."
    )
    @click.option(
        "--cert-dir",
        type=click.Path(path_type=Path, exists=True, file_okay=False),
        metavar="DIR",
        help="Certificates, as in certs.d.",
    )
    @wraps(command)
    def wrapped(
        *args: Any,
        authfile: Path | None,
        insecure: Sequence[str],
        ca: Path | None,
        cert_dir: Path | None,
        **given: Any,
    ) -> Any:
        options = RegistryOptions(
            current=settings(), authfile=authfile, insecure=tuple(insecure), ca=ca, cert_dir=cert_dir
        )
        return command(*args, registries=options, **given)

    return wrapped


def pull_into_store(reference: Reference, current: Settings, *, platform: str = "") -> None:
    """Pulls an image that a container is to be made from, with progress on a terminal.

    Args:
        reference: its name.
        current: where the store is.
        platform: which one, where there are several; "": this machine's.
    """
    from wherry.image.platforms import Platform
    from wherry.image.registry.pulling import PullOptions, pull
    from wherry.store.format.objects import Mode
    from wherry.store.repository import Repository

    repo = Repository.init(current.root / "store", Mode.BARE_USER)
    with RegistryOptions(current=current).clients(reference.domain) as clients:
        pull(
            repo,
            reference,
            clients,
            platform=Platform.parse(platform) if platform else None,
            options=PullOptions(
                keep_layers=keeps_layers(repo),
                progress=current.progress(),
                note=lambda text: note(text, quiet=current.quiet),
            ),
        )


def keeps_layers(repo: Any) -> bool:
    """Tells whether a repository's config says that compressed layers are kept."""
    return bool(repo.config.get_bool("wherry", "keep-layers", False))
