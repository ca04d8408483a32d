"""Why settings did not take, found out from a tree's own Kconfig files: a program of its own, and a module.

As a program it runs in a build's sandbox, for Kconfig files call shells (``$(shell,...)``, ``$(cc-option,...)``) while
they are read. It needs nothing but kconfiglib: it reads a request in JSON on its standard input and writes the answer
to the file that is named there::

    {"library": "/path/of/folder/with/kconfiglib", "kconfig": "Kconfig", "folder": "/tree", "config": "/tree/.config",
     "answer": "/file", "untaken": [{"symbol", "asked", "got"}, ...]}

    {"reasons": [{"why", "text", "symbols"}, ...]}      or      {"error": "what kconfiglib says"}

The variables that the Kconfig files want, and the prefix of symbols as ``CONFIG_``, are in its environment.

A dependency is told by the smallest part of it that is not met: each side of an ``&&`` that is not, and of an ``||``
the side with the least to do.

Source: the kernel's Documentation/kbuild/kconfig-language.rst.
"""

from __future__ import annotations

import difflib
import io
import json
import os
import re
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

TRISTATE = {"n": 0, "m": 1, "y": 2}
MAX_GUESSES = 40
"""For how many unknown symbols a similar name is looked for: that takes long among twenty thousand."""
_NAMED = 4
_CHOICE = "its choice, which cannot be made"
_NEWER = re.compile(r"^([ \t]+)(modules|transitional)[ \t]*$", re.MULTILINE)


RECURSION = 20_000
"""kconfiglib goes from symbol to symbol by calls, and Buildroot's depend on each other over longer ways than usual."""


def main() -> None:
    """Answers the request on the standard input."""
    request = json.load(sys.stdin)
    sys.path.insert(0, request["library"])
    answer: dict[str, Any]
    sys.setrecursionlimit(RECURSION)
    try:
        answer = {"reasons": answered(request)}
    except Exception as error:  # noqa: BLE001 whatever a tree makes of kconfiglib, a build goes on without reasons
        answer = {"error": f"{type(error).__name__}: {error}"}
    with open(request["answer"], "w", encoding="utf-8") as file:
        json.dump(answer, file)


def answered(request: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Returns the reasons for a request."""
    os.chdir(request["folder"])
    kconf = loaded(request["kconfig"])
    kconf.load_config(request["config"])
    return explain(kconf, request["untaken"])


def loaded(path: str) -> Any:
    """Returns kconfiglib's Kconfig of a tree, whose files may be of a newer dialect than its own.

    The kernel's since 6.0 say ``modules`` for ``option modules``, and since 6.18 ``transitional``.
    """
    import kconfiglib

    class Dialect(kconfiglib.Kconfig):  # type: ignore[misc]
        def _open(self, name: str, mode: str) -> Any:
            if mode != "r":
                return super()._open(name, mode)
            with open(name, encoding="utf-8", errors="replace") as file:
                return io.StringIO(_NEWER.sub(_older, file.read()))

    return Dialect(path, warn=False)


def _older(match: re.Match[str]) -> str:
    return f"{match[1]}option modules" if match[2] == "modules" else ""


def explain(kconf: Any, untaken: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Returns why each setting did not take.

    Args:
        kconf: kconfiglib's Kconfig, with the resulting configuration loaded.
        untaken: symbols with prefix, what was asked and what came; None for what is not set.
    """
    guesses = MAX_GUESSES
    reasons: list[dict[str, Any]] = []
    for item in untaken:
        name = item["symbol"].removeprefix(kconf.config_prefix)
        symbol = kconf.syms.get(name)
        if symbol is None or not symbol.nodes:
            reasons.append(_no_such(kconf, name, guess=guesses > 0))
            guesses -= 1
            continue
        why, text, others = _why(kconf, symbol, item["asked"], item["got"])
        symbols = {kconf.config_prefix + other.name: other.str_value for other in others if other.nodes}
        reasons.append({"why": why, "text": text, "symbols": symbols})
    return reasons


def _no_such(kconf: Any, name: str, *, guess: bool) -> dict[str, Any]:
    known = [each.name for each in kconf.unique_defined_syms if abs(len(each.name) - len(name)) <= _NAMED]
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.8) if guess else []
    text = "there is no such symbol" + (f"; did you mean {near[0]}?" if near else "")
    return {"why": "no-such-symbol", "text": text, "symbols": {}}


def _why(kconf: Any, symbol: Any, asked: str | None, got: str | None) -> tuple[str, str, list[Any]]:
    import kconfiglib

    if symbol.orig_type in (kconfiglib.BOOL, kconfiglib.TRISTATE):
        return _why_switch(kconf, symbol, "n" if asked is None else asked, "n" if got is None else got)
    if symbol.orig_type == kconfiglib.STRING:
        if asked is not None and not (len(asked) > 1 and asked.startswith('"') and asked.endswith('"')):
            return "type", f"it is a string, and {_short(asked)} is not in quotes", []
        return _why_hidden(symbol, 2) or _not_known()
    base = 16 if symbol.orig_type == kconfiglib.HEX else 10
    try:
        value = int(asked or "", base)
    except ValueError:
        word = "a hexadecimal number" if base == 16 else "a number"
        return "type", f"it is {word}, and {_short(asked or 'n')} is none", []
    hidden = _why_hidden(symbol, 2)
    if hidden is not None:
        return hidden
    for low, high, condition in symbol.ranges:
        if kconfiglib.expr_value(condition):
            ends = (int(low.str_value or "0", base), int(high.str_value or "0", base))
            if not ends[0] <= value <= ends[1]:
                text = f"out of its range, {low.str_value} to {high.str_value}"
                return "range", text, [end for end in (low, high) if end.nodes]
            break
    return _not_known()


def _why_switch(kconf: Any, symbol: Any, asked: str, got: str) -> tuple[str, str, list[Any]]:
    import kconfiglib

    if asked not in TRISTATE:
        word = "y or n" if symbol.orig_type == kconfiglib.BOOL else "y, m or n"
        return "type", f"it is {word}, and {_short(asked)} is neither", []
    wanted, has = TRISTATE[asked], TRISTATE.get(got, 0)
    if has > wanted:
        return _why_more(kconf, symbol, wanted)
    hidden = _why_hidden(symbol, wanted)
    if hidden is not None:
        return hidden
    if symbol.choice is not None:
        chosen = symbol.choice.selection
        if chosen is not None and chosen is not symbol:
            return "choice", f"of its choice, {chosen.name} is chosen", [chosen]
    if asked == "m":
        if symbol.orig_type == kconfiglib.BOOL:
            return "type", "it is y or n, and m is neither", []
        if kconf.modules.tri_value == 0:
            return "no-modules", "there are no modules here", [kconf.modules]
    return _not_known()


def _why_more(kconf: Any, symbol: Any, wanted: int) -> tuple[str, str, list[Any]]:
    """Returns why a symbol is y or m although less was asked."""
    import kconfiglib

    selecting = [
        (each, condition)
        for each in kconfiglib.split_expr(symbol.rev_dep, kconfiglib.OR)
        for condition in [kconfiglib.expr_value(each)]
        if condition > wanted
    ]
    if selecting:
        names = [_first(each) for each, _ in selecting]
        shown = ", ".join(f"{each.name}={each.str_value}" for each in names[:_NAMED])
        more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
        return "selected", f"selected by {shown}{more}", names
    if symbol.choice is not None and symbol.choice.selection is symbol:
        others = [each for each in symbol.choice.syms if each is not symbol]
        possible = [each for each in others if each.visibility]
        text = f"a choice must have one; instead of it: {', '.join(each.name for each in possible[:_NAMED])}"
        return "choice", text if possible else "a choice must have one, and it is the only one possible", []
    if wanted == 1 and kconf.modules.tri_value == 0:
        return "no-modules", "there are no modules here, so it is y", [kconf.modules]
    return _why_hidden(symbol, 2, anyway="its default counts") or _not_known()


def _why_hidden(symbol: Any, wanted: int, *, anyway: str = "") -> tuple[str, str, list[Any]] | None:
    """Returns what keeps a person from setting a symbol to a value; None where nothing does."""
    import kconfiglib

    if symbol.orig_type != kconfiglib.TRISTATE:
        wanted = min(wanted, 1)  # what depends on a module may be y where it can be no module
    if symbol.visibility >= wanted:
        return None
    conditions = [node.prompt[1] for node in symbol.nodes if node.prompt]
    if not conditions:
        found = _unmet(symbol.direct_dep, wanted)
        selecting = [_first(each) for each in kconfiglib.split_expr(symbol.rev_dep, kconfiglib.OR)]
        names = ", ".join(each.name for each in selecting[:_NAMED] if each.nodes)
        text = f"it has no prompt: {anyway or (f'others select it, as {names}' if names else 'its default counts')}"
        if found is not None and not anyway:
            return "no-prompt", f"{text}; and it depends on {found[0]}", found[1]
        return "no-prompt", text, []
    parts = [part for condition in conditions for part in [_unmet(condition, wanted)] if part is not None]
    if not parts:
        return None
    text, others = min(parts, key=lambda part: len(part[1]))
    return "depends", f"depends on {text}" + (f", so {anyway}" if anyway else ""), others


def _unmet(expression: Any, wanted: int) -> tuple[str, list[Any]] | None:
    """Returns the smallest part of an expression that keeps it below a value, and its symbols; None where it is met."""
    import kconfiglib

    if kconfiglib.expr_value(expression) >= wanted:
        return None
    if isinstance(expression, tuple) and expression[0] in (kconfiglib.AND, kconfiglib.OR):
        both = expression[0] == kconfiglib.AND
        sides = [_unmet(each, wanted) for each in kconfiglib.split_expr(expression, expression[0])]
        parts = list({part[0]: part for part in sides if part is not None}.values())
        parts = [part for part in parts if part[0] != _CHOICE] or parts  # which is off for the others' sake
        if not both:
            parts.sort(key=lambda part: len(part[1]))
            least = [part for part in parts if len(part[1]) == len(parts[0][1])]
            kept = least[:_NAMED]
            text = " or ".join(part[0] for part in kept) + (" or others" if len(least) > _NAMED else "")
            return (f"({text})" if len(kept) > 1 else text), _unique(kept)
        return " and ".join(part[0] for part in parts), _unique(parts)
    if isinstance(expression, tuple):
        text = kconfiglib.expr_str(expression)
        others = [each for each in kconfiglib.expr_items(expression) if getattr(each, "nodes", None)]  # 8 is none
        named = ", ".join(f"{each.name} is {_value(each)}" for each in others)
        return (f"{text}, and {named}" if named else text), others
    if getattr(expression, "is_constant", False):
        return f"{expression.name}, always", []
    if isinstance(expression, kconfiglib.Choice):
        return _CHOICE, []
    if not expression.nodes:
        return f"{expression.name}, which there is not", [expression]
    return f"{expression.name}={_value(expression)}", [expression]


def _unique(parts: Iterable[tuple[str, list[Any]]]) -> list[Any]:
    return list(dict.fromkeys(each for part in parts for each in part[1]))


def _first(expression: Any) -> Any:
    """Returns the symbol that selects: the first of what stands before ``if``."""
    while isinstance(expression, tuple):
        expression = expression[1]
    return expression


def _value(symbol: Any) -> str:
    return str(symbol.str_value) or "empty"


def _short(value: str) -> str:
    return repr(value[:40])


def _not_known() -> tuple[str, str, list[Any]]:
    return "not-known", "not known", []


if __name__ == "__main__":
    main()
