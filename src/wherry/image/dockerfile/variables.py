"""Variables, quotes and escapes in one word: ``$NAME``, ``${NAME}`` and its forms.

The forms are ``:-`` ``-`` ``:+`` ``+`` ``:?`` ``?`` ``#`` ``##`` ``%`` ``%%`` ``/`` ``//``. Within double quotes the
escape character stands before ``"``, ``$`` and itself only; within single quotes nothing is special. A ``$`` before
anything else is itself. What is not set is empty.

Refused: quotes and braces that stay open, forms that are not known, ``:?`` of what is not set, and results beyond the
limit, so that doubling a variable again and again ends.

Source: Dockerfile reference, "Environment replacement"; POSIX.1-2017, 2.6.2 "Parameter Expansion".
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from wherry.image.dockerfile import patterns
from wherry.image.dockerfile.problems import Place
from wherry.image.dockerfile.words import SPACE

MAX_EXPANDED_CHARS = 1024 * 1024
MAX_NESTING = 50
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*|[0-9]+|[@*#?$!-]", re.ASCII)
"""Names, and the shell's positional and special parameters, none of which is ever set here."""
_VALUED = "-+?"

Lookup = Callable[[str], str | None]


@dataclass(slots=True, kw_only=True)
class Expander:
    """Expands words of one instruction.

    Args:
        lookup: returns a variable's value, None when it is not set.
        place: where the words stand.
        escape: the escape character.
        undefined: gets the names of variables that are not set and have no default.
    """

    lookup: Lookup
    place: Place
    escape: str = "\\"
    undefined: set[str] = field(default_factory=set)

    def word(self, text: str) -> str:
        """Returns a word expanded, as one word.

        Raises:
            InvalidInput: it is malformed, or needs what is not set.
        """
        return "".join(char for char, _ in self._run(text))

    def words(self, text: str) -> tuple[str, ...]:
        """Returns a word expanded; a variable's value outside quotes is as many words as white space makes of it.

        Raises:
            InvalidInput: as `word`.
        """
        found: list[str] = []
        current: str | None = None
        for chars, plain in self._run(text):
            for char in chars:
                if plain and char in SPACE:
                    if current is not None:
                        found.append(current)
                    current = None
                else:
                    current = (current or "") + char
            if not plain:
                current = current or ""
        return (*found, current) if current is not None else tuple(found)

    def body(self, text: str) -> str:
        """Returns the lines of a heredoc expanded, in which quotes mean nothing.

        As in docker, the escape is always the backslash, and one before any other character is dropped too.

        Raises:
            InvalidInput: as `word`.
        """
        return "".join(char for char, _ in self._run(text, quotes=False, escape="\\"))

    def _run(self, text: str, *, quotes: bool = True, escape: str = "") -> Iterable[tuple[str, bool]]:
        if "$" not in text and not any(char in text for char in ("'", '"', escape or self.escape)):
            return [(text, True)]
        scan = _Scan(text, self, quotes=quotes, escape=escape or self.escape)
        return scan.until("", raw_escapes=False)


class _Scan:
    """A position in a word."""

    def __init__(self, text: str, expander: Expander, *, quotes: bool, escape: str) -> None:
        self._text = text
        self._at = 0
        self._of = expander
        self._quotes = quotes
        self._escape = escape
        self._depth = 0
        self._size = 0

    def _error(self, what: str, hint: str | None = None) -> Exception:
        return self._of.place.error(what, hint)

    def _next(self) -> str:
        """Returns the next character, "" at the end."""
        char = self._text[self._at : self._at + 1]
        self._at += len(char)
        return char

    def until(self, stop: str, *, raw_escapes: bool) -> list[tuple[str, bool]]:
        """Returns what comes before `stop`, expanded: pieces, and whether each may be split into words."""
        pieces: list[tuple[str, bool]] = []
        while char := self._next():
            if char == stop:
                return pieces
            if char == "$":
                piece = (self._dollar(), True)
            elif self._quotes and char == "'":
                piece = (self._single(), False)
            elif self._quotes and char == '"':
                piece = (self._double(), False)
            elif char == self._escape:
                piece = ((char if raw_escapes else "") + self._next(), False)
            else:
                piece = (char, True)
            self._grow(len(piece[0]))
            pieces.append(piece)
        if stop:
            raise self._error(f"a ${{ without its {stop}", f"expected {stop}, got the end of the word")
        return pieces

    def _grow(self, size: int) -> None:
        self._size += size
        if self._size > MAX_EXPANDED_CHARS:
            raise self._error(f"a word is longer than {MAX_EXPANDED_CHARS} characters with its variables")

    def _single(self) -> str:
        end = self._text.find("'", self._at)
        if end < 0:
            raise self._error("a single quote stays open", "expected another ', got the end of the word")
        found = self._text[self._at : end]
        self._at = end + 1
        return found

    def _double(self) -> str:
        result: list[str] = []
        while char := self._next():
            if char == '"':
                return "".join(result)
            if char == "$":
                char = self._dollar()
            elif char == self._escape:
                following = self._next()
                char = following if following in ('"', "$", self._escape) else char + following
            self._grow(len(char))
            result.append(char)
        raise self._error("a double quote stays open", 'expected another ", got the end of the word')

    def _dollar(self) -> str:
        """Returns what a ``$`` that was just read begins."""
        if self._text[self._at : self._at + 1] != "{":
            name = self._name()
            return self._value(name) if name else "$"
        self._at += 1
        begin = self._at
        name = self._name()
        operator = self._next()
        if not name or not operator:
            raise self._error(
                f"not a variable: ${{{self._text[begin : begin + 20]}", "write ${NAME}, or \\$ for the sign itself"
            )
        if operator == "}":
            return self._value(name)
        self._depth += 1
        if self._depth > MAX_NESTING:
            raise self._error(f"variables are nested more than {MAX_NESTING} deep")
        try:
            return self._form(name, operator)
        finally:
            self._depth -= 1

    def _form(self, name: str, operator: str) -> str:
        if operator in "#%/":
            return self._pattern(name, operator)
        colon = operator == ":"
        if colon:
            operator = self._next()
        if not operator or operator not in _VALUED:
            shown = (":" if colon else "") + operator
            raise self._error(
                f"${{{name}{shown}: an unknown form of a variable", "known are :- - :+ + :? ? # ## % %% / //"
            )
        word = self._joined("}")
        value = self._of.lookup(name)
        is_set = bool(value) if colon else value is not None
        if operator == "+":
            return word if is_set else ""
        if is_set:
            return value or ""
        if operator == "-":
            return word
        reason = word or "must be set" + (" and not be empty" if colon else "")
        raise self._error(f"{name}: {reason}", f"set it with --build-arg {name}=VALUE, ARG or ENV")

    def _pattern(self, name: str, operator: str) -> str:
        twice = self._text[self._at : self._at + 1] == operator
        self._at += twice
        pattern = self._joined("/" if operator == "/" else "}", raw_escapes=True)
        replacement = self._joined("}") if operator == "/" else ""
        value = self._value(name)
        if len(pattern) > patterns.MAX_PATTERN_CHARS or len(value) > patterns.MAX_SUBJECT_CHARS:
            raise self._error(f"${{{name}{operator}: the pattern or the value is too long")
        if operator == "#":
            return patterns.remove_prefix(value, pattern, longest=twice)
        if operator == "%":
            return patterns.remove_suffix(value, pattern, longest=twice)
        if len(value) * len(replacement) > MAX_EXPANDED_CHARS:
            raise self._error(f"${{{name}/: the result may be longer than {MAX_EXPANDED_CHARS} characters")
        return patterns.replace(value, pattern, replacement, everywhere=twice)

    def _joined(self, stop: str, *, raw_escapes: bool = False) -> str:
        return "".join(piece for piece, _ in self.until(stop, raw_escapes=raw_escapes))

    def _name(self) -> str:
        match = _NAME.match(self._text, self._at)
        if match is None:
            return ""
        self._at = match.end()
        return match[0]

    def _value(self, name: str) -> str:
        value = self._of.lookup(name)
        if value is None:
            self._of.undefined.add(name)
            return ""
        return value
