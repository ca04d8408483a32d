"""Package URLs of components. Source: purl-spec (ECMA-427), "purl-types"."""

from __future__ import annotations

from typing import TYPE_CHECKING

from wherry.core.errors import Unsupported
from wherry.image.sbom.licences import HINT
from wherry.image.sbom.model import Component, Kind

if TYPE_CHECKING:
    from packageurl import PackageURL


def purl_of(component: Component) -> PackageURL:
    """Returns the package URL of a component.

    Raises:
        Unsupported: the package for it is not installed.
    """
    try:
        from packageurl import PackageURL
    except ImportError:
        raise Unsupported("an SBOM needs the package packageurl-python", hint=HINT) from None
    version = component.version
    if component.kind is Kind.GOLANG and version == "(devel)":
        version = ""
    return PackageURL(
        type=str(component.kind),
        namespace=component.namespace or None,
        name=component.name,
        version=version or None,
        qualifiers=dict(component.qualifiers) or None,
    )


def references(components: tuple[Component, ...]) -> dict[str, str]:
    """Returns a name for each component's key that is unique in a document: its purl, with a number where two agree."""
    found: dict[str, str] = {}
    seen: dict[str, int] = {}
    for component in components:
        text = purl_of(component).to_string()
        seen[text] = seen.get(text, 0) + 1
        found[component.key] = text if seen[text] == 1 else f"{text}#{seen[text]}"
    return found
