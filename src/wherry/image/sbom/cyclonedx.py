"""An inventory as CycloneDX 1.6 in JSON: the same inventory gives the same bytes.

The serial number is made of the image's digest, the time is the image's own. Source: CycloneDX 1.6 (ECMA-424).
"""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import TYPE_CHECKING

from wherry.core.errors import Unsupported
from wherry.image.sbom.licences import HINT
from wherry.image.sbom.model import Basis, Component, Inventory, Kind
from wherry.image.sbom.purl import purl_of, references
from wherry.version import __version__

if TYPE_CHECKING:
    from cyclonedx.model import ExternalReference, Property
    from cyclonedx.model.component import Component as CdxComponent
    from cyclonedx.model.license import DisjunctiveLicense, LicenseExpression

NAMESPACE = uuid.uuid5(uuid.NAMESPACE_DNS, "sbom.wherry")
MEDIA_TYPE = "application/vnd.cyclonedx+json"
_SYSTEM = "system"
_WEB = ("http://", "https://")


def to_cyclonedx(inventory: Inventory) -> bytes:
    """Returns the document.

    Raises:
        Unsupported: the package cyclonedx-python-lib is not installed.
    """
    try:
        from cyclonedx.model import HashAlgorithm, HashType, Property
        from cyclonedx.model.bom import Bom, BomMetaData
        from cyclonedx.model.bom_ref import BomRef
        from cyclonedx.model.component import Component as Cdx
        from cyclonedx.model.component import ComponentType
        from cyclonedx.model.dependency import Dependency
        from cyclonedx.model.tool import ToolRepository
        from cyclonedx.output.json import JsonV1Dot6
    except ImportError:
        raise Unsupported("CycloneDX needs the package cyclonedx-python-lib", hint=HINT) from None
    refs = references(inventory.components)
    image = Cdx(
        type=ComponentType(inventory.role.value),
        name=inventory.name,
        version=inventory.digest,
        bom_ref=inventory.digest,
        hashes=[HashType(alg=HashAlgorithm.SHA_256, content=inventory.digest.removeprefix("sha256:"))],
        properties=[Property(name="wherry:platform", value=inventory.platform)] if inventory.platform else None,
    )
    components = [_component(component, refs) for component in inventory.components]
    system = inventory.system
    if system.identifier:
        components.append(
            Cdx(
                type=ComponentType.OPERATING_SYSTEM,
                name=system.identifier,
                version=system.version or None,
                description=system.name or None,
                bom_ref=_SYSTEM,
            )
        )
    below: dict[str, set[str]] = {refs[item.key]: set() for item in inventory.components}
    for item in inventory.components:
        below[refs[item.key]].update(refs[key] for key in item.depends if key in refs)
    wanted = {ref for refs_below in below.values() for ref in refs_below}
    tops = [ref for ref in below if ref not in wanted]
    dependencies = [
        Dependency(BomRef(ref), [Dependency(BomRef(other)) for other in sorted(below[ref])]) for ref in below
    ]
    dependencies.append(Dependency(BomRef(inventory.digest), [Dependency(BomRef(ref)) for ref in tops]))
    bom = Bom(
        components=components,
        dependencies=dependencies,
        serial_number=uuid.uuid5(NAMESPACE, inventory.digest),
        properties=[Property(name="wherry:unread", value=f"{item.where}: {item.what}") for item in inventory.warnings],
        metadata=BomMetaData(
            component=image,
            timestamp=datetime.fromisoformat(inventory.created),
            tools=ToolRepository(
                components=[Cdx(type=ComponentType.APPLICATION, name="wherry", version=__version__, bom_ref="wherry")]
            ),
        ),
    )
    return (JsonV1Dot6(bom).output_as_string(indent=2) + "\n").encode()


def _component(component: Component, refs: dict[str, str]) -> CdxComponent:
    from cyclonedx.model import HashAlgorithm, HashType
    from cyclonedx.model.component import Component as Cdx
    from cyclonedx.model.component import ComponentType
    from cyclonedx.model.contact import OrganizationalEntity

    licence = _licence(component)
    plain = component.kind in (Kind.DEB, Kind.APK, Kind.RPM)
    return Cdx(
        type=ComponentType(component.role.value),
        name=component.name,
        group=None if plain else component.namespace or None,
        version=component.version,
        bom_ref=refs[component.key],
        purl=purl_of(component),
        description=component.summary or None,
        supplier=OrganizationalEntity(name=component.supplier) if component.supplier else None,
        licenses=[licence] if licence is not None else None,
        hashes=[HashType(alg=HashAlgorithm(name), content=digits) for name, digits in component.hashes],
        external_references=_links(component),
        properties=_properties(component, refs),
    )


def _licence(component: Component) -> DisjunctiveLicense | LicenseExpression | None:
    from cyclonedx.model.license import DisjunctiveLicense, LicenseAcknowledgement, LicenseExpression
    from cyclonedx.spdx import is_supported_id

    if not component.licence:
        return None
    said = LicenseAcknowledgement.DECLARED if component.basis is Basis.DECLARED else LicenseAcknowledgement.CONCLUDED
    if is_supported_id(component.licence):
        return DisjunctiveLicense(id=component.licence, acknowledgement=said)
    if " " not in component.licence and component.licence.startswith("LicenseRef-"):
        return DisjunctiveLicense(name=component.licence, acknowledgement=said)
    return LicenseExpression(component.licence, acknowledgement=said)


def _links(component: Component) -> list[ExternalReference]:
    from cyclonedx.model import ExternalReference, ExternalReferenceType, XsUri

    if not component.homepage.startswith(_WEB) or " " in component.homepage:
        return []
    return [ExternalReference(type=ExternalReferenceType.WEBSITE, url=XsUri(component.homepage))]


def _properties(component: Component, refs: dict[str, str]) -> list[Property]:
    from cyclonedx.model import Property

    pairs = [
        ("wherry:found-in", component.found_in),
        ("wherry:source", component.source),
        ("wherry:part-of", refs.get(component.owner, "")),
        *((f"wherry:{name}", value) for name, value in component.properties),
    ]
    return [Property(name=name, value=value) for name, value in pairs if value]
