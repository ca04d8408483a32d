"""Where finders put what they find: cleaned, counted, each component once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields, replace

from wherry.image.sbom.model import Component, Inventory, System, Unread
from wherry.image.sbom.tree import Unreadable

MAX_COMPONENTS = 200_000
MAX_WARNINGS = 1000
MAX_FIELD_CHARS = 1000
"""Of any text of a component; what is longer is cut."""
MAX_LICENCE_CHARS = 8000
"""Of an expression: a package may be under a hundred licences."""
MAX_TEXT_CHARS = 200_000
"""Of all texts found under one licence's name."""

_SEPARATOR = "\n\n" + "-" * 70 + "\n\n"


class Findings:
    """What has been found so far in one image."""

    def __init__(self, system: System) -> None:
        self.system = system
        self._components: dict[str, Component] = {}
        self._warnings: set[Unread] = set()
        self._texts: dict[str, set[str]] = {}
        self._too_many = False

    @property
    def distro(self) -> str:
        """What purls of the distribution's packages say: ``debian-12``."""
        return "-".join(part for part in (self.system.identifier, self.system.version) if part)

    def add(self, component: Component) -> None:
        """Takes a component; of two with the same key the first stays."""
        if len(self._components) >= MAX_COMPONENTS:
            self.warn(component.found_in, f"more than {MAX_COMPONENTS} components; the others are not listed")
            return
        component = _cleaned(component)
        self._components.setdefault(component.key, component)

    def components(self) -> list[Component]:
        """Returns all that was found."""
        return list(self._components.values())

    def put(self, component: Component, changed: Component) -> None:
        """Puts a component that only knows more in the place of itself."""
        self._components[component.key] = changed

    def warn(self, where: str, what: str) -> None:
        """Notes that something could not be read."""
        if len(self._warnings) < MAX_WARNINGS:
            self._warnings.add(Unread(where=clean(where), what=clean(what)))

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Makes a warning of what a file of the tree is not."""
        try:
            yield
        except Unreadable as error:
            self.warn(error.where or "", error.what)

    def text(self, reference: str, text: str) -> None:
        """Keeps the text that stands somewhere under the name of a licence."""
        text = clean(text, MAX_TEXT_CHARS, lines=True).strip()
        known = self._texts.setdefault(reference, set())
        if text and sum(map(len, known)) + len(text) <= MAX_TEXT_CHARS:
            known.add(text)

    def inventory(self, *, name: str, digest: str, created: str, platform: str) -> Inventory:
        """Returns all of it, sorted."""
        used = " ".join(component.licence for component in self._components.values())
        words = set(used.replace("(", " ").replace(")", " ").split())
        return Inventory(
            name=clean(name),
            digest=digest,
            created=created,
            platform=clean(platform),
            system=self.system,
            components=tuple(component for _, component in sorted(self._components.items())),
            warnings=tuple(sorted(self._warnings, key=lambda warning: (warning.where, warning.what))),
            texts=tuple(
                (reference, _SEPARATOR.join(sorted(texts)))
                for reference, texts in sorted(self._texts.items())
                if reference in words
            ),
        )


def clean(text: str, max_chars: int = MAX_FIELD_CHARS, *, lines: bool = False) -> str:
    """Returns a text without what no document may hold: control characters and lone surrogates; cut where too long.

    Args:
        text: from the image.
        max_chars: what is kept.
        lines: whether line breaks and tabs stay.
    """
    kept = text[:max_chars]
    if not kept.isprintable():
        kept = "".join(char if _allowed(char) or (lines and char in "\n\t") else " " for char in kept)
    return kept if lines else kept.strip()


def _allowed(char: str) -> bool:
    code = ord(char)
    return code >= 0x20 and code not in (0xFFFE, 0xFFFF) and not 0x7F <= code < 0xA0 and not 0xD800 <= code < 0xE000


def _cleaned(component: Component) -> Component:
    changed: dict[str, str] = {}
    for field in fields(component):
        value = getattr(component, field.name)
        if field.name != "kind" and isinstance(value, str):
            limit = MAX_LICENCE_CHARS if field.name == "licence" else MAX_FIELD_CHARS
            cleaned = clean(value, limit)
            if cleaned != value:
                changed[field.name] = cleaned
    return replace(component, **changed) if changed else component  # type: ignore[arg-type]
