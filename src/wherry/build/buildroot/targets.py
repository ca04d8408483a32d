"""What Buildroot's Makefile does besides building: licences, graphs, what there is.

Each works in the place of the step ``build`` of a host, in the output folder that stays. A host that was built
elsewhere, or whose folder was removed, is configured there first; ``legal-info`` then fetches and unpacks sources, the
graphs tell that there is nothing yet.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from wherry.build.buildroot import output
from wherry.build.buildroot.places import OUTPUT
from wherry.core.errors import NotFound, ToolError
from wherry.core.jsonio import loads

if TYPE_CHECKING:
    from wherry.build.buildroot.builder import Build
    from wherry.build.steps import Place

MAX_INFO_BYTES = 64 * 1024 * 1024
LEGAL_INFO = "legal-info"
MANIFESTS = ("manifest.csv", "host-manifest.csv")


def prepare(build: Build, place: Place) -> None:
    """Puts the configuration into the output folder, and leaves what is built there."""
    output.begin(place, tree=build.tree_digest, incremental=build.options.incremental)


def make(build: Build, place: Place, *targets: str) -> Path:
    """Makes targets; returns the output folder.

    Raises:
        ToolError: it failed; says of which package.
    """
    prepare(build, place)
    build.make.run(place, *targets, asked=build.staged.defconfig.asked, fetches=True)
    return place.kept / OUTPUT


def legal_info(build: Build, place: Place) -> Path:
    """Collects licence texts and sources of all that was built; returns the folder.

    ::

        legal-info/{manifest.csv, host-manifest.csv, legal-info.sha256, buildroot.config, README}
        legal-info/{licenses,host-licenses,sources,host-sources}/PACKAGE/...

    Raises:
        ToolError: a licence's text is not the one that Buildroot knows, or a source is missing.
        NotFound: Buildroot made no manifest.
    """
    folder = make(build, place, LEGAL_INFO) / LEGAL_INFO
    for name in MANIFESTS:
        if not (folder / name).is_file():
            raise NotFound("Buildroot made no manifest of licences", where=folder / name)
    return folder


def graph_build(build: Build, place: Place) -> list[Path]:
    """Draws how long packages took to build; returns the drawings.

    Raises:
        ToolError: Buildroot's own program failed: it wants Python's matplotlib and numpy on this machine.
    """
    return _drawings(make(build, place, "graph-build"), "build.")


def graph_size(build: Build, place: Place) -> list[Path]:
    """Draws how large packages are in the root; returns the drawings, and tables of packages and files.

    Raises:
        ToolError: Buildroot's own program failed: it wants Python's matplotlib and numpy on this machine.
    """
    folder = make(build, place, "graph-size")
    return [*_drawings(folder, "graph-size."), *sorted((folder / "graphs").glob("*-size-stats.csv"))]


def graph_depends(build: Build, place: Place) -> list[Path]:
    """Draws which package needs which; returns the drawings.

    Raises:
        ToolError: it failed: it wants Graphviz' ``dot`` on this machine.
    """
    return _drawings(make(build, place, "graph-depends"), "graph-depends.")


def _drawings(folder: Path, start: str) -> list[Path]:
    return sorted(path for path in (folder / "graphs").glob(f"{start}*") if path.suffix != ".dot")


def show_info(build: Build, place: Place) -> dict[str, dict[str, Any]]:
    """Returns what Buildroot knows of each package of the host: version, licences, sources, dependencies.

    Raises:
        ToolError: it failed, or said what is no JSON.
    """
    prepare(build, place)
    said = build.make.read(place, "show-info")
    begin = said.find("{")
    found = loads(said[begin:] if begin >= 0 else said, where="make show-info", max_bytes=MAX_INFO_BYTES)
    if not isinstance(found, dict) or not all(isinstance(item, dict) for item in found.values()):
        raise ToolError("Buildroot described its packages in a way that is not understood", where="make show-info")
    return found
