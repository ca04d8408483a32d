"""``wherry host graph``: what a build has cost, in time and in space."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from wherry.cli.context import settings
from wherry.cli.host_context import cache_folder, cache_option, find_workspace, workspace_argument
from wherry.cli.output import note, print_json
from wherry.core.errors import NotFound, Unsupported, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from wherry.build.graphs import Row
    from wherry.build.workspace import Workspace
    from wherry.image.sbom.tree import Tree

_KINDS = ("time", "packages", "size", "layers")
_SECONDS = ("time", "packages")
_SHOWN = 30
_SUFFIXES = (".svg", ".html", ".dot")
_BAR_WIDTH = 24


@click.command()
@click.option(
    "--kind",
    type=click.Choice(_KINDS),
    default="time",
    show_default=True,
    help="Seconds by step; by package, of Buildroot; bytes by package; by layer.",
)
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), metavar="FILE", help="Draw it: FILE.svg, .html, or .dot (steps)."
)
@click.option("--all", "every", is_flag=True, help=f"All rows, not the first {_SHOWN}.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@cache_option
@workspace_argument
def graph(kind: str, output: Path | None, every: bool, as_json: bool, cache: str | None, workspace: str | None) -> None:
    """Show what the last build has cost: time by step, space by package and layer.

    A package counts for the layer that wants it, or whose packages need it.

    \b
    Examples:
      wherry host graph my-device
      wherry host graph my-device --kind size -o size.svg
      wherry host graph my-device --kind layers --json
      wherry host graph my-buildroot --kind packages
    """
    from wherry.build.graphs import read_steps, step_dot
    from wherry.core.durable import write_file

    found = find_workspace(workspace)
    if output is not None and output.suffix not in _SUFFIXES:
        raise UsageError("no such picture", where=output, hint=f"its name ends with {', '.join(_SUFFIXES)}")
    if output is not None and output.suffix == ".dot":
        if kind != "time":
            raise UsageError("only steps are drawn for graphviz", hint="--kind time")
        write_file(output, step_dot(read_steps(found.work)).encode())
        return
    rows = _rows(found, kind, cache)
    if output is not None:
        write_file(output, _picture(found, kind, rows, html=output.suffix == ".html").encode())
    if as_json:
        print_json([_json(row, kind) for row in rows])
    elif output is None:
        _print(rows, kind, every=every)


def _rows(found: Workspace, kind: str, cache: str | None) -> list[Row]:
    from wherry.build.graphs import Row, layer_rows, read_steps, size_rows, time_rows, wanted_by_layer

    if kind == "time":
        return time_rows(read_steps(found.work))
    if kind == "packages":
        from wherry.build.buildroot.figures import TIMES, times

        listed = _buildroot_list(found, TIMES, cache)
        if listed is None:
            raise Unsupported("only Buildroot builds package by package", where=found.path, hint="--kind time")
        return [Row(name=figure.package, value=figure.seconds) for figure in times(listed)]
    files, owners, tree = _sizes(found, cache)
    packages = size_rows(files, owners)
    if kind == "size":
        return packages
    from wherry.build.legal.licences import describe_tree
    from wherry.cli.host_context import load

    host = load(found)
    contributions = host.inputs.contributions
    components = describe_tree(tree, name=found.name).facts.components
    wanted = wanted_by_layer(components, [(line.text, line.layer) for line in contributions.packages])
    overlays = [(part.layer, _folder_size(part.path)) for part in contributions.overlays]
    return layer_rows(packages, wanted, overlays, host.layers)


def _buildroot_list(found: Workspace, name: str, cache: str | None) -> Path | None:
    """Returns a list that Buildroot wrote at the last build; None of a host of another builder.

    Raises:
        NotFound: the results of that build are not kept any more.
    """
    from wherry.build.builder import BuilderName
    from wherry.build.graphs import read_steps
    from wherry.cli.host_buildroot import STEP
    from wherry.spec.host_record import read_host_record

    if read_host_record(found.path).builder != BuilderName.BUILDROOT:
        return None
    keys = [step.key for step in read_steps(found.work) if step.name == STEP]
    path = cache_folder(cache) / "results" / (keys[0] if keys else STEP) / "output" / name
    if not path.is_file():
        raise NotFound(
            "what Buildroot wrote of this build is not kept", where=path, hint="wherry host build, or --cache"
        )
    return path


def _sizes(found: Workspace, cache: str | None) -> tuple[dict[str, int], dict[str, str], Tree]:
    from wherry.build.buildroot.figures import FILES, owners
    from wherry.build.legal.footprint import file_sizes, owners_of
    from wherry.core.digest import Checksum
    from wherry.core.errors import Conflict
    from wherry.image.sbom.tree import commit_tree
    from wherry.spec.host_record import read_host_record
    from wherry.store.repository import Repository

    record = read_host_record(found.path)
    if not record.commit:
        raise Conflict("this host has no root", where=found.path, hint="--kind time")
    repo = Repository.open(found.work / "store")
    commit = Checksum(record.commit)
    tree = commit_tree(repo, commit)
    files = file_sizes(repo, commit, progress=settings().progress())
    try:
        listed = _buildroot_list(found, FILES, cache)
    except NotFound as error:
        note(f"warning: files are not told by package: {error}", quiet=settings().quiet)
        listed = None
    return files, owners_of(tree, files) if listed is None else owners(listed), tree


def _folder_size(folder: Path) -> int:
    from wherry.build.executing import size_of

    return size_of(folder)


def _picture(found: Workspace, kind: str, rows: Sequence[Row], *, html: bool) -> str:
    from wherry.build.charts import bars_svg, html_page, map_svg, time_svg

    title = {
        "time": "Time by step",
        "packages": "Time by package",
        "size": "Space by package",
        "layers": "Space by layer",
    }[kind]
    whole = f"{found.name}: {title[0].lower()}{title[1:]}"
    if kind in ("packages", "layers"):
        picture = bars_svg(rows, whole, seconds=kind == "packages")
    else:
        picture = {"time": time_svg, "size": map_svg}[kind](rows, whole)
    return html_page(picture, rows, whole, _value(kind)) if html else picture


def _value(kind: str) -> Callable[[Row], str]:
    from wherry.core.units import format_size

    return (lambda row: f"{row.value:.1f} s") if kind in _SECONDS else (lambda row: format_size(int(row.value)))


def _json(row: Row, kind: str) -> dict[str, Any]:
    if kind == "time":
        return {
            "step": row.name,
            "what": row.note,
            "layer": row.group or None,
            "seconds": row.value,
            "started_s": row.start,
            "cached": row.muted,
        }
    if kind == "packages":
        return {"package": row.name, "seconds": round(row.value, 3)}
    parts = {name: int(size) for name, size in sorted(row.parts.items(), key=lambda item: (-item[1], item[0]))}
    return {"name": row.name, "size_bytes": int(row.value), "parts": parts}


def _print(rows: Sequence[Row], kind: str, *, every: bool) -> None:
    from wherry.build.graphs import bar

    shown = rows if every else rows[:_SHOWN]
    value = _value(kind)
    largest = max((row.value for row in shown), default=0.0)
    width = min(max((len(row.name) for row in shown), default=0), 34)
    number = max((len(value(row)) for row in shown), default=0)
    columns = shutil.get_terminal_size((80, 24)).columns if sys.stdout.isatty() else 80
    room = max(columns - width - number - _BAR_WIDTH - 6, 0)
    for row in shown:
        name = row.name if len(row.name) <= width else f"{row.name[: width - 1]}…"
        said = "kept" if row.muted else row.note or row.group
        drawn = bar(row.value, largest, _BAR_WIDTH)
        print(f"{name:<{width}}  {value(row):>{number}}  {drawn:<{_BAR_WIDTH}}  {said[:room]}".rstrip())
    if len(shown) < len(rows):
        note(f"... and {len(rows) - len(shown)} more: --all", quiet=settings().quiet)
