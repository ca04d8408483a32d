"""Paragraphs of fields, as Debian writes them: dpkg's status, copyright files in machine-readable form.

Source: Debian Policy 5.1 ("Syntax of control files"). Read leniently: a line that is no field is skipped and counted.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

MAX_FIELDS = 200
"""Of one paragraph."""


@dataclass(slots=True, kw_only=True)
class Paragraph:
    """One paragraph; names of fields in lower case, lines of a value joined by ``\\n``."""

    fields: dict[str, str] = field(default_factory=dict)
    bad_lines: int = 0

    def get(self, name: str) -> str:
        """Returns a field, "" when it is not there."""
        return self.fields.get(name, "")


def paragraphs(text: str) -> Iterator[Paragraph]:
    """Gives the paragraphs of a file."""
    current = Paragraph()
    name, lines = "", []
    for line in [*text.split("\n"), ""]:
        line = line.rstrip("\r")
        if line[:1] in (" ", "\t") and line.strip():
            if name:
                lines.append(line[1:])
            else:
                current.bad_lines += 1
            continue
        if line.startswith("#"):
            continue
        if name:
            current.fields.setdefault(name, "\n".join(lines))
            name = ""
        if not line.strip():
            if current.fields or current.bad_lines:
                yield current
                current = Paragraph()
            continue
        word, colon, value = line.partition(":")
        if not colon or not word.strip() or " " in word.strip() or len(current.fields) >= MAX_FIELDS:
            current.bad_lines += 1
            continue
        name, lines = word.strip().lower(), [value.strip()]
