"""What a tool's own ``olddefconfig`` made of the fragments that it was given: which settings did not take, and whose.

``make olddefconfig`` drops in silence what it cannot have: a symbol that there is not, one whose dependencies are not
met, a value out of range. `compare` finds these again and names the layer and the line that asked. Why it happened is
found out from the tree's Kconfig files (`kconfig_tree.py`), where these can be read.

A ``.config`` is kept as a mapping from symbols, with their prefix (``CONFIG_``, ``BR2_``), to values as they are
written; None is a symbol that is ``not set``, which says the same as one that is not there.

Source: the kernel's Documentation/kbuild/kconfig.rst and scripts/kconfig/merge_config.sh, by what they do.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from wherry.core.durable import map_os_error
from wherry.core.errors import InvalidInput, NotFound

if TYPE_CHECKING:
    from pathlib import Path

    from wherry.build.fragments import Merged

MAX_CONFIG_BYTES = 4 * 1024 * 1024
MAX_ROUNDS = 8
"""How often a saved edit is tried and completed."""
Config = Mapping[str, str | None]

_SET = re.compile(r"([A-Za-z0-9_]+)=(.*)\Z")
_UNSET = re.compile(r"# ([A-Za-z0-9_]+) is not set\Z")
_OFF = frozenset({None, "", "n", '""'})
"""What says the same as nothing at all."""


def parse(text: str) -> dict[str, str | None]:
    """Returns what a ``.config`` says; of a symbol that stands there twice the last, as the tools do."""
    found: dict[str, str | None] = {}
    for line in text.splitlines():
        if match := _SET.match(line):
            found.pop(match[1], None)
            found[match[1]] = match[2].rstrip()
        elif match := _UNSET.match(line):
            found.pop(match[1], None)
            found[match[1]] = None
    return found


def read(path: Path) -> dict[str, str | None]:
    """Returns what the file ``.config`` of a tree says.

    Raises:
        NotFound: there is none.
        InvalidInput: it is too long, or no text.
    """
    try:
        with open(path, "rb") as file:
            data = file.read(MAX_CONFIG_BYTES + 1)
    except FileNotFoundError:
        raise NotFound("no configuration", where=path) from None
    except OSError as error:
        raise map_os_error(error, "cannot read a configuration", where=path) from error
    if len(data) > MAX_CONFIG_BYTES:
        raise InvalidInput(f"more than {MAX_CONFIG_BYTES} bytes", where=path)
    try:
        return parse(data.decode())
    except UnicodeDecodeError:
        raise InvalidInput("not text in UTF-8", where=path) from None


def line(symbol: str, value: str | None) -> str:
    """Returns a setting as the tools write it."""
    return f"# {symbol} is not set" if value in (None, "n") else f"{symbol}={value}"


def serialize(config: Config) -> str:
    """Returns the text of a ``.config``."""
    return "".join(f"{line(symbol, value)}\n" for symbol, value in config.items())


def merged_over(config: Config, asked: Merged) -> dict[str, str | None]:
    """Returns a configuration with what fragments ask for over it, as ``merge_config.sh -m`` makes it."""
    result = dict(config)
    for setting in asked.settings():
        result.pop(setting.symbol, None)
        result[setting.symbol] = setting.value
    return result


class Why(StrEnum):
    """Why a setting did not take."""

    NOT_KNOWN = "not-known"
    NO_SUCH_SYMBOL = "no-such-symbol"
    DEPENDS = "depends"
    """A dependency is not met."""
    NO_PROMPT = "no-prompt"
    """Nobody can set it; it is computed, or selected by others."""
    CHOICE = "choice"
    """Another member of its choice is chosen, or a choice must have one."""
    SELECTED = "selected"
    """Another symbol selects it, so it cannot be off."""
    TYPE = "type"
    """It is no value of the symbol's type."""
    RANGE = "range"
    NO_MODULES = "no-modules"
    """``m``, where modules are off."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reason:
    """Why a setting did not take, as the tree's Kconfig files have it."""

    why: Why = Why.NOT_KNOWN
    text: str = "not known"
    """For people: ``depends on NET=n``."""
    symbols: Mapping[str, str] = field(default_factory=dict)
    """The other symbols that it is about, with prefix, and their values."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Untaken:
    """A setting that did not take."""

    symbol: str
    asked: str | None
    got: str | None
    """As the ``.config`` has it; None: it is not set, or not there."""
    layer: str
    path: str
    """Of the fragment, below its layer."""
    line: int
    reason: Reason = field(default_factory=Reason)

    @property
    def where(self) -> str:
        """Layer, file and line that asked."""
        return f"{self.layer}: {self.path}:{self.line}"

    def text(self, asked: Merged | None = None) -> str:
        """Returns a line for people: what was asked, what came of it, why, and who asked.

        Args:
            asked: names also who set the symbols that are in the way.
        """
        blame: list[str] = []
        for symbol in self.reason.symbols if asked is not None else ():
            every = asked.history.get(symbol) if asked is not None else None
            if every:
                blame.append(f"{symbol} was set by {every[-1].where}")
        found = f"{self.symbol}={shown(self.asked)} is {shown(self.got)}: {self.reason.text} ({self.where})"
        return "; ".join([found, *blame])

    def as_json(self) -> dict[str, Any]:
        """Returns it for ``kconfig-report.json``."""
        return {
            "symbol": self.symbol,
            "asked": shown(self.asked),
            "got": shown(self.got),
            "layer": self.layer,
            "path": self.path,
            "line": self.line,
            "why": str(self.reason.why),
            "reason": self.reason.text,
            "symbols": dict(self.reason.symbols),
        }


def shown(value: str | None) -> str:
    """Returns a value for people: what is not set is ``n``."""
    return "n" if value is None else value


def compare(asked: Merged, config: Config) -> list[Untaken]:
    """Returns the settings that did not take, in the order in which they were asked for.

    Args:
        asked: the fragments of a chain.
        config: what ``olddefconfig`` made of them.
    """
    return [
        Untaken(
            symbol=setting.symbol,
            asked=setting.value,
            got=config.get(setting.symbol),
            layer=setting.layer,
            path=setting.path,
            line=setting.line,
        )
        for setting in asked.settings()
        if not same(setting.value, config.get(setting.symbol))
    ]


def same(asked: str | None, got: str | None) -> bool:
    """Tells whether a value is the one that was asked for, however it is written."""
    if asked in _OFF and got in _OFF:
        return True
    if asked is None or got is None:
        return False
    return asked == got or (_number(asked) is not None and _number(asked) == _number(got))


def _number(value: str) -> int | None:
    try:
        return int(value, 16 if value[:2].lower() == "0x" else 10)
    except ValueError:
        return None


def diff_fragment(before: Config, after: Config, *, asked: Collection[str] = ()) -> str:
    """Returns a fragment of what differs in a configuration: what a person has changed in ``menuconfig``.

    A symbol that is no more there, because what it depends on was taken away, is told of only if somebody asks for it.

    Args:
        before: the configuration that the person began with.
        after: what it is now.
        asked: symbols that fragments before this one set.
    """
    changed = {symbol: value for symbol, value in after.items() if not same(before.get(symbol), value)}
    gone: Iterable[str] = (symbol for symbol, value in before.items() if symbol not in after and value is not None)
    changed |= {symbol: None for symbol in gone if symbol in asked}
    return serialize(changed)


def delta_fragment(
    before: Config, after: Config, complete: Callable[[Config], Config], *, asked: Collection[str] = ()
) -> str:
    """Returns a fragment that, laid over the fragments of a chain and completed, gives an edited configuration again.

    The difference alone may not: what was on because another symbol selected it stays on in ``menuconfig`` when that
    one goes, but would not come back from fragments. So the fragment is tried, and completed by what is missing.

    Args:
        before: what the tool made of the chain's fragments.
        after: the edited configuration.
        complete: returns what the tool makes of the chain's fragments with these settings over them.
        asked: symbols that the chain's fragments set.
    """
    delta = parse(diff_fragment(before, after, asked=asked))
    for _ in range(MAX_ROUNDS):
        missing = parse(diff_fragment(complete(delta), after, asked=asked))
        if missing.items() <= delta.items():
            break
        delta |= missing
    return serialize(delta)
