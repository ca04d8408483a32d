"""An inventory as SPDX 2.3 in JSON: the same inventory gives the same bytes.

What a package declares is ``licenseDeclared``; what was recognised in a text is ``licenseConcluded``.
Source: SPDX 2.3 (ISO/IEC 5962), clauses 6 (document), 7 (packages), 10 (other licences), 11 (relationships).
"""

from __future__ import annotations

import hashlib
import uuid
from typing import Any

from wherry.core import jsonio
from wherry.image.sbom.cyclonedx import NAMESPACE
from wherry.image.sbom.model import Basis, Component, Inventory, Role
from wherry.image.sbom.purl import purl_of, references
from wherry.version import __version__

MEDIA_TYPE = "application/spdx+json"
_NONE = "NOASSERTION"
_ALGORITHMS = {"SHA-1": "SHA1", "SHA-256": "SHA256", "SHA-512": "SHA512"}
_WEB = ("http://", "https://")
_IMAGE, _SYSTEM = "SPDXRef-Image", "SPDXRef-System"


def to_spdx(inventory: Inventory) -> bytes:
    """Returns the document.

    Raises:
        Unsupported: the package packageurl-python is not installed.
    """
    identifiers = {key: _identifier(ref) for key, ref in references(inventory.components).items()}
    packages = [_image(inventory)]
    links = [("SPDXRef-DOCUMENT", "DESCRIBES", _IMAGE)]
    if inventory.system.identifier:
        packages.append(_system(inventory))
        links.append((_IMAGE, "CONTAINS", _SYSTEM))
    for component in inventory.components:
        own = identifiers[component.key]
        packages.append(_package(component, own))
        links.append((identifiers.get(component.owner, _IMAGE), "CONTAINS", own))
        links += [(own, "DEPENDS_ON", identifiers[key]) for key in component.depends if key in identifiers]
    document: dict[str, Any] = {
        "SPDXID": "SPDXRef-DOCUMENT",
        "creationInfo": {"created": inventory.created, "creators": [f"Tool: wherry-{__version__}"]},
        "dataLicense": "CC0-1.0",
        "documentNamespace": f"https://spdx.org/spdxdocs/wherry-{uuid.uuid5(NAMESPACE, inventory.digest)}",
        "name": inventory.name,
        "packages": packages,
        "relationships": [
            {"spdxElementId": one, "relationshipType": kind, "relatedSpdxElement": other}
            for one, kind, other in sorted(set(links))
        ],
        "spdxVersion": "SPDX-2.3",
    }
    others = _other_licences(inventory)
    if others:
        document["hasExtractedLicensingInfos"] = others
    if inventory.warnings:
        document["comment"] = "Not read: " + "; ".join(f"{item.where}: {item.what}" for item in inventory.warnings)
    return jsonio.canonical(document) + b"\n"


def _identifier(reference: str) -> str:
    """Returns an identifier, which has letters, digits, ``.`` and ``-`` alone (clause 7.2), for a reference."""
    digest = hashlib.sha256(reference.encode()).hexdigest()[:12]
    plain = "".join(char if char.isascii() and (char.isalnum() or char in ".-") else "-" for char in reference[4:64])
    return f"SPDXRef-{plain}-{digest}"


def _image(inventory: Inventory) -> dict[str, Any]:
    return {
        "SPDXID": _IMAGE,
        "checksums": [{"algorithm": "SHA256", "checksumValue": inventory.digest.removeprefix("sha256:")}],
        "copyrightText": _NONE,
        "downloadLocation": _NONE,
        "filesAnalyzed": False,
        "licenseConcluded": _NONE,
        "licenseDeclared": _NONE,
        "name": inventory.name,
        "primaryPackagePurpose": inventory.role.value.upper(),
        "versionInfo": inventory.digest,
    }


def _system(inventory: Inventory) -> dict[str, Any]:
    found = {
        "SPDXID": _SYSTEM,
        "copyrightText": _NONE,
        "downloadLocation": _NONE,
        "filesAnalyzed": False,
        "licenseConcluded": _NONE,
        "licenseDeclared": _NONE,
        "name": inventory.system.identifier,
        "primaryPackagePurpose": "OPERATING-SYSTEM",
    }
    return found | ({"versionInfo": inventory.system.version} if inventory.system.version else {})


def _package(component: Component, identifier: str) -> dict[str, Any]:
    licence = component.licence or _NONE
    declared = component.basis is Basis.DECLARED
    found: dict[str, Any] = {
        "SPDXID": identifier,
        "copyrightText": _NONE,
        "downloadLocation": _NONE,
        "externalRefs": [
            {
                "referenceCategory": "PACKAGE-MANAGER",
                "referenceLocator": purl_of(component).to_string(),
                "referenceType": "purl",
            }
        ],
        "filesAnalyzed": False,
        "licenseConcluded": _NONE if declared else licence,
        "licenseDeclared": licence if declared else _NONE,
        "name": f"{component.namespace}/{component.name}" if _named_whole(component) else component.name,
        "sourceInfo": f"found in /{component.found_in}"
        + (f", built from {component.source}" if component.source else ""),
        "versionInfo": component.version,
    }
    if component.role is not Role.LIBRARY:
        found["primaryPackagePurpose"] = "OTHER" if component.role is Role.DATA else component.role.value.upper()
    if component.supplier:
        found["supplier"] = f"Organization: {component.supplier}"
    if component.homepage.startswith(_WEB) and " " not in component.homepage:
        found["homepage"] = component.homepage
    if component.summary:
        found["summary"] = component.summary
    sums = [{"algorithm": _ALGORITHMS[name], "checksumValue": digits} for name, digits in component.hashes]
    if sums:
        found["checksums"] = sums
    if component.properties:
        found["comment"] = ", ".join(f"{name}: {value}" for name, value in component.properties)
    return found


def _named_whole(component: Component) -> bool:
    return bool(component.namespace) and component.kind.value in ("npm", "golang")


def _other_licences(inventory: Inventory) -> list[dict[str, Any]]:
    """Returns an entry for every ``LicenseRef-`` that stands in an expression (clause 10)."""
    texts = dict(inventory.texts)
    words = " ".join(component.licence for component in inventory.components)
    used = {word for word in words.replace("(", " ").replace(")", " ").split() if word.startswith("LicenseRef-")}
    return [
        {
            "extractedText": texts.get(reference) or "The package gives this name, and no text with it.",
            "licenseId": reference,
            "name": reference.removeprefix("LicenseRef-"),
        }
        for reference in sorted(used)
    ]
