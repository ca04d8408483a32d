"""Writes the reference pages that come from the code, and checks every link between the pages.

``docs/reference/exit-codes.md`` comes from the tree of errors, ``docs/reference/command-line.md`` from the
commands themselves, ``docs/reference/boards.md`` from the layers. ``--check`` writes nothing and fails when a page is
out of date.
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

import click

from wherry.build.boards import Board, Boot, Proof, board_of
from wherry.build.layers import find_layers
from wherry.build.resolving import resolve
from wherry.cli.root import COMMANDS, cli
from wherry.core.errors import HttpError, Locked, WherryError, all_errors

DOCS = Path(__file__).parent
PROJECT = DOCS.parent
_LINK = re.compile(r"!?\[[^\]]*\]\(([^)#\s]+)(?:#[^)]*)?\)")
_FENCE = re.compile(r"```.*?```", re.DOTALL)


def exit_codes() -> str:
    """Returns the page of exit codes."""
    lines = [
        "# Exit codes",
        "",
        "Every command ends with one of these. An error is one line on standard error:",
        "`wherry: WHAT: WHERE; WHAT TO DO`. `wherry --debug ...` adds the traceback.",
        "",
        "| code | meaning |",
        "| ---: | --- |",
        "| 0 | it went well |",
    ]
    for cls in sorted(all_errors(), key=lambda cls: cls.exit_code):
        if cls in (Locked, HttpError) or cls.exit_code > 125:
            continue
        text = "anything without a code of its own" if cls is WherryError else _first_line(cls)
        lines.append(f"| {cls.exit_code} | {text} |")
    lines += [
        "| 125 | `run`, `create`, `exec`: the command line is wrong, or the engine failed, as in docker |",
        "| 126 | `run`, `exec`: the command cannot be invoked |",
        "| 127 | `run`, `exec`: the command is not there |",
        "| 128+N | `run`, `exec`: the command died of signal N; 130 for any command: interrupted with Ctrl-C |",
        "| 141 | standard output was closed |",
        "",
        "`run` and `exec` otherwise end with the status of the container's command. `wherry commit` ends with 1 when",
        "there is nothing to commit, as git does; `wherry store` with 1 on every error, told as `error: ...`, as",
        "`ostree` does; `wherry doctor` with 11 when something is missing that the main job needs;",
        "`wherry device run --once` with 14 when the update was rolled back.",
        "",
    ]
    return "\n".join(lines)


def _first_line(cls: type[WherryError]) -> str:
    text = (cls.__doc__ or "").splitlines()[0].rstrip(".")
    return text[0].lower() + text[1:]


def command_line() -> str:
    """Returns the page of all commands, as their own help tells it."""
    lines = [
        "# The command line",
        "",
        "This page is made by `make docs` from the commands' own help.",
        "",
    ]
    context = click.Context(cli, info_name="wherry")
    lines += _help("wherry", cli, context)
    for section in COMMANDS.values():
        for word in section:
            command = cli.get_command(context, word)
            if command is not None:
                lines += _walk(f"wherry {word}", command, context)
    return "\n".join(lines)


def _walk(path: str, command: click.Command, parent: click.Context) -> list[str]:
    context = click.Context(command, info_name=path.rsplit(" ", 1)[-1], parent=parent)
    lines = _help(path, command, context)
    if isinstance(command, click.Group):
        for word in command.list_commands(context):
            sub = command.get_command(context, word)
            if sub is not None and not sub.hidden:
                lines += _walk(f"{path} {word}", sub, context)
    return lines


def _help(path: str, command: click.Command, context: click.Context) -> list[str]:
    context.terminal_width = 80
    context.max_content_width = 80
    return [f"## `{path}`", "", "```text", command.get_help(context).rstrip(), "```", ""]


def broken_links() -> list[str]:
    """Returns every link of a page to a file that is not there."""
    found = []
    pages = [*DOCS.rglob("*.md"), *PROJECT.glob("*.md"), *(PROJECT / "examples").rglob("*.md")]
    for page in sorted(pages):
        for target in _LINK.findall(_FENCE.sub("", page.read_text())):
            if "://" in target or target.startswith("mailto:"):
                continue
            if not (page.parent / target).exists():
                found.append(f"{page.relative_to(PROJECT)}: {target}")
    return found


_BOOTS = {
    Boot.NONE: "-",
    Boot.UEFI: "UEFI, systemd-boot",
    Boot.EXTLINUX: "U-Boot, extlinux.conf",
    Boot.RASPBERRY_PI: "the Pi's firmware",
    Boot.U_BOOT_SCRIPT: "U-Boot, boot.scr",
}


_PROOFS = {
    Proof.BOOTED: "the image that is built of its layers is booted in QEMU by a test, up to a login",
    Proof.BUILDS: "its image is built by a test; nothing booted it",
    Proof.CONFIGURED: (
        "its layers and its partition layout are checked, and all that it asks of Buildroot goes through Buildroot's"
        " own `make defconfig` (2026.08) and takes; the name of its U-Boot configuration and its device tree are in"
        " U-Boot's sources (August 2026). Nothing was compiled, and nobody tried the hardware"
    ),
}


def boards() -> str:
    """Returns the page of boards."""
    layers = find_layers([PROJECT / "layers"])
    families: dict[str, list[tuple[str, Board]]] = {}
    for layer in layers:
        if layer.listed and (layer.path / "board/board.yaml").is_file():
            board = board_of(resolve(layers, [layer.name]))
            families.setdefault(board.family, []).append((layer.name, board))
    every = [board for found in families.values() for _, board in found if board.builder != "source"]
    count = {proof: sum(board.proof is proof for board in every) for proof in Proof}
    lines = [
        "# Boards",
        "",
        "This page is made by `make docs` from `layers/`. A board is a layer: `wherry host new my-device --target",
        "LAYER,host/minimal` builds for it, and another word in its place builds the same host for another board. What",
        "their files say is told in [layers](layers.md).",
        "",
        "How far each is proven, and no further:",
        "",
        "| proof | what was run | boards |",
        "| --- | --- | ---: |",
        f"| booted | {_PROOFS[Proof.BOOTED]} | {count[Proof.BOOTED]} |",
        f"| builds | {_PROOFS[Proof.BUILDS]} | {count[Proof.BUILDS]} |",
        f"| configured | {_PROOFS[Proof.CONFIGURED]} | {count[Proof.CONFIGURED]} |",
        "",
        "The check with Buildroot and U-Boot wants checkouts of both: `WHERRY_BUILDROOT=DIR WHERRY_U_BOOT=DIR pytest",
        "tests/compat/boards`. Firmware that only its maker may pass on is not here, and is named in the notes. Tiny",
        "hosts are built from source, are no boards, and are not counted.",
        "",
    ]
    for family, found in sorted(families.items()):
        lines += [
            f"## {family}",
            "",
            "| layer | board | architecture | starts by | console | device tree | proof |",
            "| --- | --- | --- | --- | --- | --- | --- |",
        ]
        for name, board in found:
            tree = board.device_tree.removesuffix(".dtb").rpartition("/")[2]
            also = "".join(f", {other}" for other in board.architectures)
            cells = (
                f"`{name}`",
                board.title,
                board.architecture + also,
                _BOOTS[board.boot],
                f"`{board.console}`" if board.console else "-",
                f"`{tree}`" if tree else "-",
                board.proof.value,
            )
            lines.append(f"| {' | '.join(cells)} |")
        notes = [f"- `{name}`: {board.proof_note}." for name, board in found if board.proof_note]
        lines += ["", *notes, *([""] if notes else [])]
    return "\n".join(lines)


PAGES = {
    "reference/exit-codes.md": exit_codes,
    "reference/command-line.md": command_line,
    "reference/boards.md": boards,
}


def main() -> int:
    """Writes or checks."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--check", action="store_true")
    check = parser.parse_args().check
    status = 0
    for name, make in PAGES.items():
        path, text = DOCS / name, make()
        if check and (not path.exists() or path.read_text() != text):
            print(f"{name} is out of date: run `make docs`")
            status = 1
        elif not check:
            path.write_text(text)
            print(f"wrote docs/{name}")
    for link in broken_links():
        print(f"broken link: {link}")
        status = 1
    return status


if __name__ == "__main__":
    sys.exit(main())
