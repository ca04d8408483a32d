"""Where a registry's name leads: its address, mirrors before it, certificates, and whether plain HTTP may be spoken.

``ROOT/registries.yaml``, else ``/etc/wherry/registries.yaml``::

    registries:
      docker.io:
        mirrors: [mirror.example:5000, https://cache.example/hub]
      registry.lan:5000:
        insecure: true          # plain HTTP, or TLS that nobody vouches for; only this name
      registry.example:
        ca: /etc/wherry/certs/example.pem
        cert: /etc/wherry/certs/client.pem
        key: /etc/wherry/certs/client.key

Folders of docker's form are read too, the first that there is: ``HOST:PORT/{*.crt, NAME.cert, NAME.key}`` below
``/etc/wherry/certs.d``, ``/etc/containers/certs.d``, ``/etc/docker/certs.d``. The authorities there count beside the
system's, while ``ca`` is the only one. A registry on a loopback address may always speak plain HTTP, as with docker.
Nothing is insecure that is not named.

Mirrors are asked for what is pulled, in their order, before the registry itself; what is pushed goes past them.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from wherry.core.durable import map_os_error
from wherry.core.errors import InvalidInput

MAX_FILE_BYTES = 256 * 1024
CERTIFICATE_FOLDERS = (
    Path("/etc/wherry/certs.d"),
    Path("/etc/containers/certs.d"),
    Path("/etc/docker/certs.d"),
)
_API_HOSTS = {"docker.io": "registry-1.docker.io"}
_KEYS = {"mirrors", "insecure", "ca", "cert", "key"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """How one registry is reached."""

    name: str
    """As it stands in references: ``registry.example:5000``."""
    urls: tuple[str, ...]
    """Without ``/v2``; the first that answers counts: https, and http where that is allowed."""
    insecure: bool = False
    ca: Path | None = None
    """The only authority to trust."""
    authorities: tuple[Path, ...] = ()
    """Those to trust beside the system's."""
    cert: Path | None = None
    key: Path | None = None
    mirrors: tuple[Host, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Hosts:
    """What is known of registries."""

    settings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    certificates: tuple[Path, ...] = CERTIFICATE_FOLDERS
    """Where a folder for each registry may be."""
    certificate_folder: Path | None = None
    """That of every registry, when the command line gives one."""
    insecure: frozenset[str] = frozenset()
    """Names that the command line says may be insecure."""
    ca: Path | None = None
    """A certificate authority that the command line gives, for all."""

    @classmethod
    def read(
        cls,
        *paths: Path,
        insecure: tuple[str, ...] = (),
        ca: Path | None = None,
        certificate_folder: Path | None = None,
    ) -> Hosts:
        """Reads the first of these files that is there.

        Raises:
            InvalidInput: it is malformed; names the key.
        """
        settings: Mapping[str, Mapping[str, Any]] = {}
        for path in paths:
            try:
                with path.open("rb") as file:
                    raw = file.read(MAX_FILE_BYTES + 1)
            except FileNotFoundError:
                continue
            except OSError as error:
                raise map_os_error(error, "cannot read the settings of registries", where=path) from error
            settings = _parse(raw, path)
            break
        return cls(settings=settings, insecure=frozenset(insecure), ca=ca, certificate_folder=certificate_folder)

    def find(self, name: str) -> Host:
        """Returns how a registry is reached."""
        entry = self.settings.get(name, {})
        host = self._host(name, f"https://{_API_HOSTS.get(name, name)}", entry)
        mirrors = []
        for text in entry.get("mirrors", ()):
            url = text if "://" in text else f"https://{text}"
            mirror = urlsplit(url).netloc
            found = self._host(mirror, url.rstrip("/"), self.settings.get(mirror, {}))
            if url.startswith("http:"):  # named with its scheme: only that
                found = replace(found, urls=(url.rstrip("/"),))
            mirrors.append(found)
        return replace(host, mirrors=tuple(mirrors))

    def _host(self, name: str, url: str, entry: Mapping[str, Any]) -> Host:
        insecure = bool(entry.get("insecure")) or name in self.insecure
        plain = url.replace("https://", "http://", 1)
        urls = (url, plain) if (insecure or is_loopback(name)) and url != plain else (url,)
        folder = self._folder(name)
        authorities, pair = _certificates(folder) if folder is not None else ((), None)
        cert, key = _path(entry, "cert"), _path(entry, "key")
        if cert is None and pair is not None:
            cert, key = pair
        return Host(
            name=name,
            urls=urls,
            insecure=insecure,
            ca=self.ca or _path(entry, "ca"),
            authorities=authorities,
            cert=cert,
            key=key,
        )

    def _folder(self, name: str) -> Path | None:
        if self.certificate_folder is not None:
            return self.certificate_folder
        return next((path / name for path in self.certificates if (path / name).is_dir()), None)


def _certificates(folder: Path) -> tuple[tuple[Path, ...], tuple[Path, Path] | None]:
    """Returns the authorities in a folder, and a client's certificate and key (docker: "Verify repository client").

    Raises:
        InvalidInput: a certificate has no key, or a key no certificate.
    """
    authorities = tuple(sorted(folder.glob("*.crt")))
    certificates = {path.stem for path in folder.glob("*.cert")}
    keys = {path.stem for path in folder.glob("*.key")}
    for stem in sorted(certificates ^ keys):
        missing = "key" if stem in certificates else "cert"
        raise InvalidInput(f"{stem}.cert and {stem}.key belong together: there is no {stem}.{missing}", where=folder)
    first = min(certificates, default=None)
    return authorities, None if first is None else (folder / f"{first}.cert", folder / f"{first}.key")


def is_loopback(name: str) -> bool:
    """Tells whether a registry's name is this machine itself."""
    host = urlsplit(f"//{name}").hostname or ""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _path(entry: Mapping[str, Any], key: str) -> Path | None:
    value = entry.get(key)
    return Path(value) if isinstance(value, str) else None


def _parse(raw: bytes, path: Path) -> dict[str, dict[str, Any]]:
    import yaml

    if len(raw) > MAX_FILE_BYTES:
        raise InvalidInput(f"longer than {MAX_FILE_BYTES} bytes", where=path)
    try:
        document = yaml.safe_load(raw) or {}
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InvalidInput(f"not YAML: {str(error).splitlines()[0]}", where=path) from None
    if not isinstance(document, dict) or set(document) - {"registries"}:
        raise InvalidInput("there is one key: registries", where=path)
    found: dict[str, dict[str, Any]] = {}
    registries = document.get("registries") or {}
    if not isinstance(registries, dict):
        raise InvalidInput("registries: must be a mapping of names", where=path)
    for name, entry in registries.items():
        if not isinstance(entry, dict):
            raise InvalidInput(f"registries.{name}: must be a mapping", where=path)
        for key, value in entry.items():
            where = f"registries.{name}.{key}"
            if key not in _KEYS:
                raise InvalidInput(f"{where}: not known", where=path, hint=f"known are {', '.join(sorted(_KEYS))}")
            if key == "mirrors":
                good = isinstance(value, list) and all(isinstance(item, str) and item for item in value)
            else:
                good = isinstance(value, bool) if key == "insecure" else isinstance(value, str)
            if not good:
                raise InvalidInput(f"{where}: not of the right kind", where=path)
        if ("cert" in entry) != ("key" in entry):
            raise InvalidInput(f"registries.{name}: cert and key belong together", where=path)
        found[str(name)] = dict(entry)
    return found
