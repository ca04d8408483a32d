"""From bytes to instructions' lines: directives, comments, continuations and heredocs.

Refused: what is no UTF-8, NUL bytes, files beyond the limits, a heredoc without its end, a directive given twice.

Source: Dockerfile reference, "Format", "Parser directives", "Here-Documents".
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from wherry.core.errors import InvalidInput
from wherry.image.dockerfile.problems import Place, nearest
from wherry.image.dockerfile.syntax import Directives, Heredoc, Note
from wherry.image.dockerfile.words import SPACE, quoted_words, split_first

MAX_FILE_BYTES = 16 * 1024 * 1024
MAX_LINES = 200_000
MAX_INSTRUCTION_CHARS = 1024 * 1024
MAX_HEREDOC_CHARS = 8 * 1024 * 1024
MAX_HEREDOCS = 100
"""Of one instruction."""

CHECKS = frozenset(
    {
        "ConsistentInstructionCasing",
        "CopyIgnoredFile",
        "DuplicateStageName",
        "ExposeInvalidFormat",
        "ExposeProtoCasing",
        "FromAsCasing",
        "FromPlatformFlagConstDisallowed",
        "InvalidDefaultArgInFrom",
        "InvalidDefinitionDescription",
        "JSONArgsRecommended",
        "LegacyKeyValueFormat",
        "MaintainerDeprecated",
        "MultipleInstructionsDisallowed",
        "NoEmptyContinuation",
        "RedundantTargetPlatform",
        "ReservedStageName",
        "SecretsUsedInArgOrEnv",
        "StageNameCasing",
        "UndefinedArgInFrom",
        "UndefinedVar",
        "WorkdirRelativePath",
    }
)
"""The names of docker's build checks."""
_ESCAPES = ("\\", "`")
_DIRECTIVE = re.compile(r"#\s*([A-Za-z][A-Za-z0-9]*)\s*=(.*)")
_HEREDOC = re.compile(r"(\d{0,9})<<(-?)([^<]+)\Z", re.DOTALL)
_TAKES_HEREDOCS = frozenset({"RUN", "COPY", "ADD"})
_BOM = "\N{ZERO WIDTH NO-BREAK SPACE}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One instruction, its continuations joined."""

    first_line: int
    last_line: int
    text: str
    heredocs: tuple[Heredoc, ...] = ()


def decode(data: bytes, where: str) -> list[str]:
    """Returns the lines, numbered from 0, without their newlines; a carriage return at the end stays.

    Raises:
        InvalidInput: too long, not UTF-8, or with NUL bytes.
    """
    if len(data) > MAX_FILE_BYTES:
        raise InvalidInput(
            f"a Dockerfile of {len(data)} bytes is longer than the limit of {MAX_FILE_BYTES}", where=where
        )
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise Place(where=where, line=line).error("not UTF-8", "write the file in UTF-8") from None
    if "\0" in text:
        raise Place(where=where, line=text.count("\n", 0, text.index("\0")) + 1).error("a NUL byte")
    lines = text.removeprefix(_BOM).split("\n")
    if not lines[-1]:
        lines.pop()
    if len(lines) > MAX_LINES:
        raise InvalidInput(f"more than {MAX_LINES} lines", where=where)
    return lines


def read_directives(lines: list[str], where: str) -> Directives:
    """Returns the directives at the head of the file; whatever else stands there ends them.

    Raises:
        InvalidInput: a directive is given twice, or its value is none that it takes.
    """
    found: dict[str, str] = {}
    skip: frozenset[str] = frozenset()
    error = False
    for number, line in enumerate(lines, 1):
        match = _DIRECTIVE.match(line)
        name = match[1].lower() if match else ""
        value = match[2].strip(SPACE) if match else ""
        if not value or name not in ("syntax", "escape", "check"):
            break
        place = Place(where=where, line=number, text=line)
        if name in found:
            raise place.error(f"the directive {name} is given twice", "keep one of them")
        found[name] = value
        if name == "escape" and value not in _ESCAPES:
            raise place.error("the escape character is neither \\ nor `", "write # escape=\\ or # escape=`")
        if name == "check":
            skip, error = _check(value, place)
    return Directives(
        syntax=found.get("syntax", ""), escape=found.get("escape", "\\"), skip_checks=skip, check_error=error
    )


def _check(value: str, place: Place) -> tuple[frozenset[str], bool]:
    skip: frozenset[str] = frozenset()
    error = False
    for part in value.split(";"):
        key, _, text = (piece.strip(SPACE) for piece in part.partition("="))
        if key == "skip" and text:
            skip = frozenset(name.strip(SPACE) for name in text.split(","))
            for name in sorted(skip - CHECKS - {"all"}):
                raise place.error(f"not a check: {name[:40]!r}", nearest(name, CHECKS))
        elif key == "error" and text.lower() in ("true", "false"):
            error = text.lower() == "true"
        else:
            raise place.error(f"not a setting of check: {part[:40]!r}", "write skip=NAME,NAME or error=true")
    return skip, error


def read_lines(lines: list[str], directives: Directives, where: str, notes: list[Note]) -> Iterator[Line]:
    """Yields the instructions with their heredocs.

    Raises:
        InvalidInput: a heredoc does not end, or something is longer than its limit.
    """
    ends = re.compile(r"(?:(?<!{0}){0})[ \t]*\Z".format(re.escape(directives.escape)))
    at = 0
    while at < len(lines):
        first = at
        text = lines[at].rstrip("\r").lstrip(SPACE)
        at += 1
        if text.startswith("#"):
            continue
        text, more = _continued(text, ends)
        if not more and not text:
            continue
        parts = [text]
        if more:
            at = _continue(lines, at, ends, parts, notes)
        text = "".join(parts)
        if len(text) > MAX_INSTRUCTION_CHARS:
            raise Place(where=where, line=first + 1, text=text[:200]).error(
                f"an instruction longer than {MAX_INSTRUCTION_CHARS} characters"
            )
        if not text.strip(SPACE):
            continue
        heredocs, at = _heredocs(lines, at, text, Place(where=where, line=first + 1, text=text))
        yield Line(first_line=first + 1, last_line=at, text=text.strip(SPACE), heredocs=heredocs)


def _continue(lines: list[str], at: int, ends: re.Pattern[str], parts: list[str], notes: list[Note]) -> int:
    """Adds the lines that continue an instruction; returns the line after it."""
    more = True
    empty = 0
    while more and at < len(lines):
        line = lines[at].rstrip("\r")
        at += 1
        if line.lstrip(SPACE).startswith("#"):
            continue
        if not line.strip(SPACE):
            empty = empty or at
            continue
        line, more = _continued(line, ends)
        parts.append(line)
    if empty:
        notes.append(
            Note(rule="NoEmptyContinuation", text="an empty line between the lines of an instruction", line=empty)
        )
    return at


def _continued(line: str, ends: re.Pattern[str]) -> tuple[str, bool]:
    """Returns a line without the escape at its end, and whether there was one; two of them are none."""
    match = ends.search(line)
    return (line, False) if match is None else (line[: match.start()], True)


def _heredocs(lines: list[str], at: int, text: str, place: Place) -> tuple[tuple[Heredoc, ...], int]:
    word, rest = split_first(text)
    if word.upper() == "ONBUILD":
        word = split_first(rest)[0]
    if word.upper() not in _TAKES_HEREDOCS or "<<" not in text:
        return (), at
    found = heredoc_heads(text)
    if len(found) > MAX_HEREDOCS:
        raise place.error(f"more than {MAX_HEREDOCS} heredocs in one instruction")
    complete = []
    for head in found:
        begin = at
        size = 0
        while True:
            if at == len(lines):
                raise place.error(
                    f"the heredoc {head.name!r} does not end",
                    f"expected a line with {head.name[:40]!r} alone, got the end of the file",
                )
            line = lines[at].rstrip("\r")
            at += 1
            if (line.lstrip("\t") if head.strip_tabs else line) == head.name:
                break
            size += len(line) + 1
            if size > MAX_HEREDOC_CHARS:
                raise place.error(f"a heredoc longer than {MAX_HEREDOC_CHARS} characters")
        content = "".join(f"{line}\n" for line in lines[begin : at - 1])
        complete.append(
            Heredoc(name=head.name, lines=content, expand=head.expand, strip_tabs=head.strip_tabs, fd=head.fd)
        )
    return tuple(complete), at


def heredoc_heads(text: str) -> list[Heredoc]:
    """Returns the heredocs that an instruction asks for, still without lines.

    As in docker, ``<<NAME`` is a word of its own, and there are none where quotes do not match.
    """
    words = quoted_words(text, "\\")
    if any(_unquoted(word) is None for word in words):
        return []
    return [head for word in words if (head := heredoc_head(word)) is not None]


def heredoc_head(word: str) -> Heredoc | None:
    """Returns the heredoc that a word such as ``<<-"EOF"`` asks for, None for any other word."""
    match = _HEREDOC.match(word)
    name = _unquoted(match[3]) if match else None
    if match is None or not name:
        return None
    return Heredoc(name=name, lines="", expand=name == match[3], strip_tabs=match[2] == "-", fd=int(match[1] or 0))


def _unquoted(word: str) -> str | None:
    """Returns a word without quotes and escapes, None when a quote stays open."""
    result: list[str] = []
    quote = ""
    index = 0
    while index < len(word):
        char = word[index]
        index += 1
        if char == "\\" and quote != "'":
            following = word[index : index + 1]
            if quote and following not in ('"', "\\", "$"):
                result.append(char)
            else:
                result.append(following)
                index += 1
        elif char == quote:
            quote = ""
        elif not quote and char in "'\"":
            quote = char
        else:
            result.append(char)
    return None if quote else "".join(result)
