"""What was found in an image: components, their licences, and what could not be read."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field


class Kind(enum.StrEnum):
    """Which package manager a component belongs to: the type of its purl."""

    DEB = "deb"
    APK = "apk"
    RPM = "rpm"
    PYPI = "pypi"
    NPM = "npm"
    GOLANG = "golang"
    CARGO = "cargo"
    OCI = "oci"
    GENERIC = "generic"
    """Of no package manager: a kernel, a file, a layer of a host."""


class Role(enum.StrEnum):
    """What a component is to the whole; the words of CycloneDX's types."""

    LIBRARY = "library"
    APPLICATION = "application"
    CONTAINER = "container"
    OPERATING_SYSTEM = "operating-system"
    FIRMWARE = "firmware"
    FILE = "file"
    DATA = "data"


class Basis(enum.StrEnum):
    """How a licence is known."""

    DECLARED = "declared"
    """The package says it in a form made for programs."""
    RECOGNISED = "recognised"
    """Read out of a text for people, by what it refers to or by its wording."""
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Component:
    """One package, module or crate."""

    kind: Kind
    name: str
    version: str
    namespace: str = ""
    """Of its purl: ``debian``, ``@scope``, ``github.com/spf13``."""
    architecture: str = ""
    qualifiers: tuple[tuple[str, str], ...] = ()
    """Of its purl, sorted."""
    licence: str = ""
    """An SPDX expression (version 2.3, annex D); "" when none is known."""
    basis: Basis = Basis.UNKNOWN
    licence_files: tuple[str, ...] = ()
    supplier: str = ""
    homepage: str = ""
    summary: str = ""
    source: str = ""
    """The source package and its version, where these are others."""
    hashes: tuple[tuple[str, str], ...] = ()
    """Names as in CycloneDX (``SHA-256``), and hex digits."""
    properties: tuple[tuple[str, str], ...] = ()
    found_in: str = ""
    """The file of the image that told of it."""
    owner: str = ""
    """The key of the package that this file belongs to."""
    depends: tuple[str, ...] = ()
    """Keys of components, sorted."""
    role: Role = Role.LIBRARY

    @property
    def key(self) -> str:
        """What is different for each component of one image."""
        where = "" if self.kind in (Kind.DEB, Kind.APK, Kind.RPM) else f" {self.found_in}"
        namespace = f"{self.namespace}/" if self.namespace else ""
        return f"{self.kind}:{namespace}{self.name}:{self.architecture}@{self.version}{where}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Unread:
    """Something that is there and could not be read, so that the list is not whole."""

    where: str
    what: str


@dataclass(frozen=True, slots=True, kw_only=True)
class System:
    """The distribution, by its os-release."""

    identifier: str = ""
    version: str = ""
    name: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Inventory:
    """All that was found in one image; the same tree gives an equal one."""

    name: str
    """What the image is called."""
    digest: str
    """What names its content: ``sha256:`` and hex digits."""
    created: str = "1970-01-01T00:00:00Z"
    """When the image was made, in RFC 3339 and UTC, whole seconds."""
    platform: str = ""
    system: System = field(default_factory=System)
    components: tuple[Component, ...] = ()
    """Sorted by key."""
    warnings: tuple[Unread, ...] = ()
    texts: tuple[tuple[str, str], ...] = ()
    """The texts of licences that SPDX has no name for, by their ``LicenseRef-``, sorted."""
    role: Role = Role.CONTAINER
    """What it all is: a container's image, a host's system."""
