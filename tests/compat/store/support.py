"""The table of what ``wherry store`` supports, from ostree's list of options and from Wherry's own commands.

Usage: python tests/compat/store/support.py        writes the table into docs/reference/store.md
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import click

from wherry.cli.store import store

OPTIONS = Path(__file__).with_name("ostree_options.toml")
PAGE = Path("docs/reference/store.md")
BEGIN, END = "<!-- the table of options begins -->", "<!-- the table of options ends -->"
EVERYWHERE = {"--repo", "-v", "--verbose", "--version", "-h", "--help"}
ABSENT: dict[str, str] = {
    "gpg-sign": "no GPG; `sign` signs with Ed25519",
    "remote gpg-import": "no GPG",
    "remote gpg-list-keys": "no GPG",
}
"""Commands that are refused as a whole, and why."""


ABSENT_OPTIONS: dict[str, dict[str, str]] = {
    "remote add": {"--sysroot": "name the repository, SYSROOT/ostree/repo"},
    "remote delete": {"--sysroot": "name the repository, SYSROOT/ostree/repo"},
}
"""Options that are errors, and why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Support:
    """What there is of one command of ostree's."""

    command: str
    supported: tuple[str, ...] = ()
    refused: tuple[tuple[str, str], ...] = ()
    """Options and the reasons."""
    missing: tuple[str, ...] = ()
    """Options that Wherry does not know: a mistake, unless the whole command is ABSENT."""
    own: tuple[str, ...] = ()


def upstream() -> dict[str, tuple[str, ...]]:
    """Returns ostree's commands with their options, like ``-b, --branch``."""
    return {
        name: tuple(option for option in options if option not in EVERYWHERE)
        for name, options in tomllib.loads(OPTIONS.read_text()).items()
    }


def commands() -> Iterator[tuple[str, click.Command]]:
    """Gives every command of ``wherry store``, subcommands as ``remote add``."""
    context = click.Context(store, info_name="store")
    for name in store.list_commands(context):
        command = store.get_command(context, name)
        assert command is not None
        if isinstance(command, click.Group):
            for below in command.list_commands(context):
                found = command.get_command(context, below)
                assert found is not None
                yield f"{name} {below}", found
        else:
            yield name, command


def supported() -> list[Support]:
    """Returns the whole table, commands of Wherry's own last."""
    ours = dict(commands())
    theirs = upstream()
    rows = []
    for name, options in sorted(theirs.items()):
        if name in ours and name not in ABSENT:
            rows.append(_compare(name, ours[name], options))
        else:
            rows.append(Support(command=name, missing=options))
    for name, command in sorted(ours.items()):
        if name not in theirs:
            rows.append(Support(command=name, own=tuple(_spelled(command))))
    return rows


def _compare(name: str, command: click.Command, options: tuple[str, ...]) -> Support:
    spelled = _spelled(command)
    known = {word: option for option in spelled for word in option.split(", ")}
    good, refused, missing = [], [], []
    for option in options:
        words = option.split(", ")
        if option in ABSENT_OPTIONS.get(name, {}):
            refused.append((option, ABSENT_OPTIONS[name][option]))
        elif not all(word in known for word in words):
            missing.append(option)
        elif spelled[known[words[-1]]]:
            refused.append((option, spelled[known[words[-1]]]))
        else:
            good.append(option)
    theirs = {word for option in options for word in option.split(", ")}
    own = tuple(option for option in spelled if not theirs & set(option.split(", ")))
    return Support(command=name, supported=tuple(good), refused=tuple(refused), missing=tuple(missing), own=own)


def _spelled(command: click.Command) -> dict[str, str]:
    """Returns a command's options, like ``-b, --branch``, with the reason of those that are refused."""
    found = {}
    for param in command.params:
        if isinstance(param, click.Option) and not param.hidden and not set(param.opts) <= EVERYWHERE:
            words = sorted([*param.opts, *param.secondary_opts], key=lambda word: (word.startswith("--"), word))
            found[", ".join(words)] = getattr(param.callback, "reason", "")
    return found


def render() -> str:
    """Returns the table as Markdown."""
    lines = ["| command | options as ostree's | refused | Wherry's own |", "| --- | --- | --- | --- |"]
    for row in supported():
        if row.command in ABSENT:
            lines.append(f"| `{row.command}` | | the command: {ABSENT[row.command]} | |")
            continue
        reasons: dict[str, list[str]] = {}
        for option, reason in row.refused:
            reasons.setdefault(reason, []).append(f"`{option}`")
        refused = "; ".join(f"{', '.join(options)}: {reason}" for reason, options in reasons.items())
        cells = (_code(row.supported), refused, _code(row.own))
        theirs = row.command in upstream()
        lines.append(f"| `{row.command}`{'' if theirs else ' (not in ostree)'} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _code(options: tuple[str, ...]) -> str:
    return " ".join(f"`{option}`" for option in options)


def page_with_table() -> str:
    """Returns the page with the table as it should be."""
    text = PAGE.read_text()
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{render()}\n{END}{after}"


if __name__ == "__main__":
    PAGE.write_text(page_with_table())
