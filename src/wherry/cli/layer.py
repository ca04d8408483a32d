"""``wherry layer``: the layers that hosts are built from: found, put in order, looked at, begun and checked."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from wherry.cli.context import settings
from wherry.cli.output import note, print_json, print_table
from wherry.core.errors import Conflict, InvalidInput, UsageError

if TYPE_CHECKING:
    from wherry.build.layers import Layer, Layers

EXTRA_PATH = "SKIFF_EXTRA_CONFIGS_PATH"
"""SkiffOS' variable: a list of search paths with colons between."""
CHAIN = "SKIFF_CONFIG"
"""SkiffOS' variable: the layers that are wanted."""


def layers_path_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds ``--layers-path``."""
    return click.option(
        "--layers-path",
        "layers_path",
        multiple=True,
        metavar="DIR[:DIR...]",
        help="Where layers are, as ns/name (several: the first counts).",
    )(command)


def search_paths(given: Sequence[str]) -> list[Path]:
    """Returns where layers are looked for: what was given, the project's own, SkiffOS' variable, Wherry's own.

    Raises:
        NotFound: what was given is not there.
    """
    from wherry.build.builtin import builtin_layers

    paths = [Path(path) for text in given for path in text.split(":") if path]
    if Path("wherry.yaml").is_file() and Path("layers").is_dir():
        paths.append(Path("layers"))
    for text in os.environ.get(EXTRA_PATH, "").split(":"):
        if text and not Path(text).is_dir():
            note(f"wherry: {EXTRA_PATH}: {text}: no such folder; it is passed over", quiet=settings().quiet)
        elif text:
            paths.append(Path(text))
    builtin = builtin_layers()
    return [*paths, builtin] if builtin is not None else paths


def find(given: Sequence[str]) -> Layers:
    """Returns the layers of this call."""
    from wherry.build.layers import find_layers

    return find_layers(search_paths(given))


@click.group()
def layer() -> None:
    """Layers: what hosts are built from, each a folder of contributions.

    Layers are looked for in --layers-path, in layers/ of the project's folder, in SKIFF_EXTRA_CONFIGS_PATH, and among
    those that come with Wherry; trees of SkiffOS layers are used as they are.

    \b
    Examples:
      wherry layer ls --layers-path SkiffOS/configs
      wherry layer resolve --layers-path SkiffOS/configs virt/qemu,skiff/core
      wherry layer new site/kiosk --dir layers --depends skiff/core
    """


@layer.command()
@layers_path_option
@click.option("-a", "--all", "everything", is_flag=True, help="Also those that only others stand on.")
@click.option("-q", "--quiet", is_flag=True, help="Names alone.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def ls(layers_path: tuple[str, ...], everything: bool, quiet: bool, as_json: bool) -> None:
    """List layers.

    \b
    Examples:
      wherry layer ls
      wherry layer ls -a --json
    """
    found = [item for item in find(layers_path) if everything or item.listed]
    if as_json:
        print_json([_document(item) for item in found])
    elif quiet:
        for item in found:
            print(item.name)
    else:
        print_table(("NAME", "DESCRIPTION"), [(item.name, item.description) for item in found], shrink=1)


@layer.command()
@layers_path_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.argument("name")
def show(layers_path: tuple[str, ...], as_json: bool, name: str) -> None:
    """Show one layer: what it is for, what it stands on and what it contributes.

    \b
    Examples:
      wherry layer show skiff/core
    """
    layers = find(layers_path)
    found = layers.get(name)
    needed = sorted(item.name for item in layers if name in item.dependencies)
    if as_json:
        print_json({**_document(found), "needed_by": needed})
        return
    lines = [
        ("Name", found.name),
        ("Description", found.description),
        ("Path", str(found.path)),
        ("Stands on", ", ".join(found.dependencies)),
        ("Needed by", ", ".join(needed)),
        ("Builds", found.build_target),
        ("Listed", "" if found.listed else "no"),
    ]
    for title, text in lines:
        if text:
            print(f"{f'{title}:':13}{text}")
    for item in found.commands:
        print(f"{'Command:':13}{item.name}: {item.description}")
    for kind in found.kinds:
        count = sum(len(files) for _, _, files in os.walk(found.path / kind))
        print(f"{f'{kind}/':20}{_count(count, 'file')}")


def _document(found: Layer) -> dict[str, Any]:
    return {
        "name": found.name,
        "description": found.description,
        "path": str(found.path),
        "dependencies": list(found.dependencies),
        "commands": [{"name": item.name, "description": item.description} for item in found.commands],
        "build_target": found.build_target,
        "listed": found.listed,
        "kinds": list(found.kinds),
    }


@layer.command()
@layers_path_option
@click.option(
    "--order",
    type=click.Choice(["dependencies", "skiffos"]),
    default="dependencies",
    show_default=True,
    help="skiffos: as SkiffOS' own scripts have it, which is not always after all dependencies.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the list of names.")
@click.argument("names", nargs=-1, metavar="NAME...")
def resolve(layers_path: tuple[str, ...], order: str, as_json: bool, names: tuple[str, ...]) -> None:
    """Print the chain of layers that some names come to, each after all that it stands on.

    Names may have commas or spaces between, as SKIFF_CONFIG has, which counts where none are given.

    \b
    Examples:
      wherry layer resolve virt/qemu skiff/core
      SKIFF_CONFIG=pi/4,core/gentoo wherry layer resolve --order skiffos
    """
    chain = chain_of(find(layers_path), names, order=order)
    if as_json:
        print_json([item.name for item in chain])
        return
    for item in chain:
        print(item.name)


def chain_of(layers: Layers, names: Sequence[str], *, order: str = "dependencies") -> list[Layer]:
    """Returns the chain that the words of a command come to.

    Raises:
        UsageError: none were given.
    """
    from wherry.build.layers import split_names
    from wherry.build.resolving import resolve as in_order
    from wherry.build.resolving import skiffos_order

    wanted = split_names(names or (os.environ.get(CHAIN, ""),))
    if not wanted:
        raise UsageError("which layers?", hint=f"name them, or set {CHAIN}")
    if order == "skiffos":
        return skiffos_order(layers, wanted, lambda text: note(f"wherry: {text}"))
    return in_order(layers, wanted)


@layer.command()
@layers_path_option
@click.option("--dot", is_flag=True, help="Print it in Graphviz' language.")
@click.argument("names", nargs=-1, metavar="NAME...")
def graph(layers_path: tuple[str, ...], dot: bool, names: tuple[str, ...]) -> None:
    """Show what layers stand on, as a tree or as a graph.

    What was shown above already is told by its name and a mark.

    \b
    Examples:
      wherry layer graph virt/qemu skiff/core
      wherry layer graph --dot pi/4 | dot -Tsvg >pi4.svg
    """
    from wherry.build.layers import split_names

    layers = find(layers_path)
    chain = chain_of(layers, names)
    if dot:
        print("digraph layers {\n  rankdir=LR;\n  node [shape=box];")
        for item in chain:
            print(f'  "{item.name}";')
            for other in item.dependencies:
                print(f'  "{item.name}" -> "{other}";')
        print("}")
        return
    shown: set[str] = set()
    for name in dict.fromkeys(split_names(names or (os.environ.get(CHAIN, ""),))):
        _draw(layers, name, "", "", shown)


def _draw(layers: Layers, name: str, head: str, below: str, shown: set[str]) -> None:
    again = name in shown
    shown.add(name)
    found = layers.get(name)
    print(f"{head}{name}{' *' if again and found.dependencies else ''}")
    for number, other in enumerate(found.dependencies if not again else ()):
        last = number == len(found.dependencies) - 1
        _draw(layers, other, below + ("└─ " if last else "├─ "), below + ("   " if last else "│  "), shown)


@layer.command()
@layers_path_option
@click.option("--blame", is_flag=True, help="Of every symbol who set it, and what that replaced.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.argument("kind", type=click.Choice(["buildroot", "busybox", "kernel", "uboot"]))
@click.argument("names", nargs=-1, metavar="NAME...")
def kconfig(layers_path: tuple[str, ...], blame: bool, as_json: bool, kind: str, names: tuple[str, ...]) -> None:
    """Print the Kconfig fragments of a chain of layers, merged: the later wins.

    Values that were replaced by others are told on standard error.

    \b
    Examples:
      wherry layer kconfig kernel virt/qemu skiff/core >kernel.config
      wherry layer kconfig --blame buildroot pi/4 | grep BR2_TARGET
    """
    from wherry.build.fragments import merge

    merged = merge(chain_of(find(layers_path), names), kind)
    for where, problem in merged.problems:
        note(f"wherry: {where}: not a line of a fragment, passed over: {problem.text[:60]}", quiet=settings().quiet)
    if as_json:
        print_json(
            {
                symbol: [
                    {"value": item.value, "layer": item.layer, "path": item.path, "line": item.line} for item in every
                ]
                for symbol, every in merged.history.items()
            }
        )
    elif blame:
        for every in merged.history.values():
            print(f"{every[-1].text()}  <- {every[-1].where}")
            for old in reversed(every[:-1]):
                print(f"    was {old.text()}  <- {old.where}")
    else:
        print(merged.text(), end="")
        for old, new in merged.redefined():
            note(f"wherry: {new.where}: {new.text()} replaces {old.text()} of {old.where}", quiet=settings().quiet)


@layer.command()
@layers_path_option
@click.option("--blame", is_flag=True, help="Of every value who said it, and what that replaced.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON: the value, and who said what.")
@click.argument("file", metavar="FILE")
@click.argument("names", nargs=-1, metavar="NAME...")
def dropins(layers_path: tuple[str, ...], blame: bool, as_json: bool, file: str, names: tuple[str, ...]) -> None:
    """Print a JSON file that layers have drop-ins of, merged: the later wins.

    FILE is a path below resources/ of layers, which have the drop-ins in a folder beside it, as
    resources/docker/daemon.json.d/*.json. A null takes a key away. What was replaced is told on standard error.

    \b
    Examples:
      wherry layer dropins docker/daemon.json skiff/core site/kiosk
      wherry layer dropins --blame docker/daemon.json site/kiosk
    """
    from wherry.build.dropins import combine

    found = combine(chain_of(find(layers_path), names), file)
    if as_json:
        history = {
            pointer: [{"value": said.value, "layer": said.layer, "path": said.path} for said in every]
            for pointer, every in found.history.items()
        }
        print_json({"value": found.value, "history": history})
    elif blame:
        for pointer, every in found.history.items():
            print(f"{pointer} {_said(every[-1].value)}  <- {every[-1].where}")
            for said in reversed(every[:-1]):
                print(f"    was {_said(said.value)}  <- {said.where}")
    else:
        print_json(found.value)
        for pointer, old, new in found.redefined():
            text = f"{new.where}: {pointer} {_said(new.value)} replaces {_said(old.value)} of {old.where}"
            note(f"wherry: {text}", quiet=settings().quiet)


def _said(value: Any) -> str:
    from wherry.core.jsonio import compact

    return "(taken away)" if value is None else compact(value).decode()


@layer.command()
@layers_path_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.argument("names", nargs=-1, metavar="NAME...")
def plan(layers_path: tuple[str, ...], as_json: bool, names: tuple[str, ...]) -> None:
    """Show what a chain of layers contributes to a build, and the digest of all of it.

    \b
    Examples:
      wherry layer plan virt/qemu skiff/core
    """
    from wherry.build.contributions import digest, gather

    found = gather(chain_of(find(layers_path), names))
    parts = {"root_overlay": found.overlays, **found.patches, "buildroot_ext": found.externals}
    scripts = {f"hooks ({word})": places for word, places in found.hooks.items()}
    symbols = {kind: len(merged.history) for kind, merged in found.fragments.items()}
    if as_json:
        print_json(
            {
                "layers": [item.name for item in found.chain],
                "digest": digest(found.chain),
                "build_target": found.build_target,
                "cflags": found.joined_cflags,
                "packages": [line.text for line in found.packages],
                "users": [line.text for line in found.users],
                "symbols": symbols,
                **{kind: [str(part.path) for part in places] for kind, places in parts.items()},
                "hooks": {word: [str(part.path) for part in places] for word, places in found.hooks.items()},
            }
        )
        return
    rows = [("layers", " ".join(item.name for item in found.chain)), ("digest", digest(found.chain))]
    rows += [(kind, _count(number, "symbol")) for kind, number in symbols.items() if number]
    rows += [(kind, " ".join(part.layer for part in places)) for kind, places in {**parts, **scripts}.items() if places]
    rows += [("cflags", found.joined_cflags), ("packages", " ".join(line.text for line in found.packages))]
    rows += [("users", _count(len(found.users), "line") if found.users else ""), ("builds", found.build_target)]
    for title, text in rows:
        if text:
            print(f"{title + ':':19}{text}")


@layer.command()
@click.option("--dir", "folder", default="layers", show_default=True, metavar="DIR", help="The folder of layers.")
@click.option("-m", "--description", default="", metavar="TEXT", help="What it is for, in a line.")
@click.option("--depends", multiple=True, metavar="NAME", help="A layer that comes before it.")
@click.argument("name")
def new(folder: str, description: str, depends: tuple[str, ...], name: str) -> None:
    """Begin a layer: its folder, what it is for and what it stands on.

    \b
    Examples:
      wherry layer new site/kiosk -m "The kiosk in the hall" --depends skiff/core
    """
    from wherry.build.layers import check_name, split_names
    from wherry.core.durable import make_dirs, write_file

    check_name(name)
    others = split_names(depends)
    for other in others:
        check_name(other, where="--depends")
    top = Path(folder) / name
    if top.exists():
        raise Conflict("there is such a folder already", where=top)
    make_dirs(top / "metadata")
    write_file(top / "metadata/description", f"{description or name}\n".encode())
    if others:
        write_file(top / "metadata/dependencies", f"{','.join(others)}\n".encode())
    print(top)


@layer.command()
@layers_path_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.argument("names", nargs=-1, metavar="[NAME...]")
def check(layers_path: tuple[str, ...], as_json: bool, names: tuple[str, ...]) -> None:
    """Tell what is wrong with layers: all that are found, or those that are named.

    Those that come with Wherry are looked at where there are no others. Ends with 5 where a build would fail or leave
    something out.

    \b
    Examples:
      wherry layer check
      wherry layer check site/kiosk --json
    """
    from wherry.build.builtin import builtin_layers
    from wherry.build.checking import Level
    from wherry.build.checking import check as look
    from wherry.build.layers import split_names

    layers = find(layers_path)
    builtin = builtin_layers()
    own = [item for item in layers if builtin is None or not item.path.is_relative_to(builtin)]
    chosen = [layers.get(name) for name in split_names(names)] or own or list(layers)
    findings = look(layers, chosen)
    if as_json:
        print_json(
            [{"level": item.level, "layer": item.layer, "where": item.where, "what": item.what} for item in findings]
        )
    else:
        for item in findings:
            print(f"{item.where}: {item.level}: {item.what}")
        for shadowed in layers.shadowed:
            if builtin is None or not shadowed.path.is_relative_to(builtin):
                note(f"wherry: {shadowed.path}: an earlier path has a layer of that name", quiet=settings().quiet)
    bad = sum(item.level is Level.ERROR for item in findings)
    if bad:
        raise InvalidInput(f"{_count(bad, 'error')} in {_count(len(chosen), 'layer')}")
    if not as_json:
        note(f"{_count(len(chosen), 'layer')}, {_count(len(findings), 'warning')}", quiet=settings().quiet)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
