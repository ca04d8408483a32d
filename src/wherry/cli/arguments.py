"""A narrow parser of command lines, for the commands that start faster than a general one is imported.

Options are described once, as data; help is printed from the same. Options may stand before and among the other
arguments, and end at ``--``; of a command that takes a program to run they end at its first argument. ``--name value``,
``--name=value``, ``-n value``, ``-nvalue``, and for flags ``--name=false`` are understood.
"""

from __future__ import annotations

from wherry.core.errors import UsageError
from wherry.core.value import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

_TRUE, _FALSE = ("true", "1", "yes"), ("false", "0", "no")
_COLUMN = 34


class Option(Value):
    """One option."""

    names: tuple[str, ...]
    """With their dashes; the first long one is its key in the result."""
    help: str
    metavar: str = ""
    """What its value is called; "" for a flag."""
    many: bool = False
    """It may stand several times, and all its values are kept."""

    @property
    def key(self) -> str:
        """The name under which its value is found."""
        return next(name for name in self.names if name.startswith("--"))[2:]


class Command(Value):
    """One command."""

    name: str
    usage: str
    help: str
    options: tuple[Option, ...] = ()
    least: int = 0
    """How many arguments it takes at least; more than `most` are refused."""
    most: int = 0
    program: bool = False
    """Its last arguments are a command line, whose own options are none of ours."""
    examples: tuple[str, ...] = ()


class Arguments:
    """What stood on a command line."""

    def __init__(self) -> None:
        self.rest: list[str] = []
        self._values: dict[str, list[str]] = {}

    def add(self, key: str, value: str) -> None:
        """Keeps a value of an option."""
        self._values.setdefault(key, []).append(value)

    def text(self, key: str, default: str = "") -> str:
        """Returns the last value of an option."""
        return self._values[key][-1] if key in self._values else default

    def all(self, key: str) -> tuple[str, ...]:
        """Returns every value of an option."""
        return tuple(self._values.get(key, ()))

    def given(self, key: str) -> bool:
        """Tells whether an option was given."""
        return key in self._values

    def flag(self, key: str) -> bool:
        """Tells whether a flag is on."""
        return self.text(key) in _TRUE

    def number(self, key: str, default: int = 0) -> int:
        """Returns the number that an option has.

        Raises:
            UsageError: it is none.
        """
        word = self.text(key)
        if not word:
            return default
        if not word.removeprefix("-").isdecimal() or len(word) > 20:
            raise UsageError(f"--{key} takes a number, not {word!r}")
        return int(word)


def parse(words: Sequence[str], options: Sequence[Option], *, stop: bool) -> Arguments:
    """Reads a command line.

    Args:
        words: its words, without the command's name.
        options: those that it may have.
        stop: the first word that is no option ends them.

    Raises:
        UsageError: there is no such option, or it lacks its value.
    """
    known = {name: option for option in options for name in option.names}
    found = Arguments()
    index = 0
    while index < len(words):
        word = words[index]
        index += 1
        if word == "--":
            found.rest += words[index:]
            break
        if not word.startswith("-") or word == "-":
            found.rest.append(word)
            if stop:
                found.rest += words[index:]
                break
            continue
        name, equals, value = word.partition("=") if word.startswith("--") else (word[:2], word[2:], word[2:])
        option = known.get(name)
        if option is None:
            raise UsageError(f"no such option: {name}", hint="see --help")
        if not option.metavar:
            if not word.startswith("--"):
                if equals:
                    raise UsageError(f"{name} takes no value", hint="see --help")
                value, equals = "true", ""
            if equals and value not in _TRUE + _FALSE:
                raise UsageError(f"{name} takes no value but true or false, not {value!r}")
            found.add(option.key, value if equals else "true")
            continue
        if not equals:
            if index == len(words):
                raise UsageError(f"{name} needs a value: {option.metavar}", hint="see --help")
            value = words[index]
            index += 1
        found.add(option.key, value.removeprefix("=") if not word.startswith("--") else value)
    return found


def parse_command(command: Command, words: Sequence[str]) -> Arguments:
    """Reads the command line of a command.

    Raises:
        UsageError: it is wrong.
    """
    found = parse(words, command.options, stop=command.program)
    if len(found.rest) < command.least:
        raise UsageError(f"too few arguments: {command.usage}")
    if len(found.rest) > command.most and not command.program:
        raise UsageError(f"too many arguments: {command.usage}", where=found.rest[command.most])
    return found


def describe(command: Command, program: str) -> str:
    """Returns the help of a command."""
    lines = [f"Usage: {program} {command.usage}", "", f"  {command.help}"]
    lines += describe_options(command.options)
    if command.examples:
        lines += ["", "Examples:", *(f"  {program} {example}" for example in command.examples)]
    return "\n".join(lines) + "\n"


def describe_options(options: Sequence[Option]) -> list[str]:
    """Returns the lines of the help that tell of options."""
    if not options:
        return []
    lines = ["", "Options:"]
    for option in options:
        left = "  " + ", ".join(option.names) + (f" {option.metavar}" if option.metavar else "")
        if len(left) >= _COLUMN:
            lines += [left, " " * _COLUMN + option.help]
        else:
            lines.append(left.ljust(_COLUMN) + option.help)
    return lines
