"""What a host that was built is made of: out of its root in the workspace's store, its lock, and the steps' results.

::

    WORKSPACE/.wherry/store                 the root, as a commit: packages, copyright files, apps
    WORKSPACE/debian.lock, CACHE/downloads  the packages, for those that are not in the root or have no texts there
    CACHE/results/KEY/output/legal/         what a step says of what it compiled (`component.py`)
    CACHE/results/KEY/output/tree/          an unpacked source of the builder `source` (`compiled.py`)
    CACHE/results/KEY/output/legal-info/    what Buildroot says (`manifest.py`), or
    WORKSPACE/.wherry/kept/build/output/legal-info/
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from wherry.build.builder import BuilderName
from wherry.build.legal.compiled import source_facts
from wherry.build.legal.component import FOLDER, Component, Facts, join, read_facts
from wherry.build.legal.licences import Deb, describe_tree
from wherry.build.legal.manifest import FILE as MANIFEST
from wherry.build.legal.manifest import read_manifest
from wherry.core.digest import Checksum
from wherry.core.errors import Conflict
from wherry.core.progress import QUIET, Progress
from wherry.image.sbom.model import Inventory, Unread
from wherry.image.sbom.tree import Tree, commit_tree
from wherry.store.repository import Repository

if TYPE_CHECKING:
    from wherry.build.debian.lock import Lock
    from wherry.build.hosts import Host
    from wherry.build.steps import Plan
    from wherry.build.workspace import Workspace
    from wherry.spec.host_record import HostRecord

BUILDROOT_FOLDER = "legal-info"
BUILDROOT_KEPT = f"kept/build/output/{BUILDROOT_FOLDER}"
"""Below a workspace's ``.wherry``: where Buildroot's target ``legal-info`` leaves it."""


_TREE = "tree"
_NAMES = {"kernel": "linux"}
"""What `compiled.KNOWN` calls what the builder calls otherwise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unpacked:
    """A source that was compiled."""

    step: str
    """In whose result it is unpacked."""
    name: str
    version: str = ""
    origin: str = ""
    """The name of its file."""
    sha256: str = ""
    files: tuple[str, ...] = ()
    """The names of all its files, in the result of the step ``sources``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gathered:
    """All that is known of a host."""

    facts: Facts
    inventory: Inventory
    """Of its root, and of packages that it boots from."""
    compiled: tuple[Component, ...]
    """What no package manager knows of."""
    tree: Tree


def gather(
    workspace: Workspace,
    record: HostRecord,
    plan: Plan | None,
    *,
    cache: Path,
    unpacked: Sequence[Unpacked] = (),
    lock: Lock | None = None,
    progress: Progress = QUIET,
) -> Gathered:
    """Returns what the host of a workspace is made of.

    Args:
        workspace: where it was built.
        record: of the build.
        plan: of its steps, which names their results; None where it is not known any more.
        cache: of builds.
        unpacked: the sources that were compiled, by `unpacked_sources`.
        lock: of its packages, if it is made of any.
        progress: is told how far it is.

    Raises:
        Conflict: it has no root, but only files to boot.
        NotFound: a part of the commit is not there.
        InvalidInput: a result or a package is malformed.
    """
    if not record.commit:
        raise Conflict("this host has no root", where=workspace.path, hint="what it boots with has no list of packages")
    repo = Repository.open(workspace.work / "store")
    tree = commit_tree(repo, Checksum(record.commit))
    debs, warnings = locked_debs(lock, cache / "downloads") if lock is not None else ([], [])
    described = describe_tree(tree, debs, name=record.name, digest=f"sha256:{record.commit}", progress=progress)
    results, gone = result_facts(plan, cache, unpacked, record.architecture) if plan is not None else ([], [])
    said = workspace.work / BUILDROOT_KEPT
    if record.builder == BuilderName.BUILDROOT and (said / MANIFEST).is_file():
        results.append(read_manifest(said, architecture=record.architecture))
    elif record.builder == BuilderName.BUILDROOT and not results:
        warnings.append("Buildroot has not said what its packages are under: its target legal-info was not made")
    elif lock is None and gone:  # a builder of packages compiles nothing
        warnings.append(f"what these steps compiled is not kept any more, so build again: {', '.join(gone)}")
    compiled = join(results)
    inventory = replace(
        described.inventory,
        warnings=(*described.inventory.warnings, *(Unread(where="build", what=text) for text in warnings)),
    )
    return Gathered(
        facts=join([described.facts, compiled, Facts(warnings=tuple(warnings))]),
        inventory=inventory,
        compiled=compiled.components,
        tree=tree,
    )


def locked_debs(lock: Lock, downloads: Path) -> tuple[list[Deb], list[str]]:
    """Returns the packages of a lock that are in the downloads, and what to say of those that are not."""
    found, gone = [], []
    for package in lock.packages:
        path = downloads / "deb/sha256" / package.sha256
        if path.is_file():
            found.append(
                Deb(
                    name=package.name,
                    version=package.version,
                    path=path,
                    sha256=package.sha256,
                    origin=package.path,
                )
            )
        else:
            gone.append(f"{package.name} {package.version} is not in the downloads any more")
    return found, gone


def unpacked_sources(host: Host) -> list[Unpacked]:
    """Returns the sources that a host is compiled from; none for other builders.

    Raises:
        InvalidInput: options or the lock are malformed.
        NotFound: there is no lock.
        Conflict: the lock is of other sources.
    """
    if host.builder.name is not BuilderName.SOURCE:
        return []
    from wherry.build.source import busybox, kernel, libcap
    from wherry.build.source.locking import fitting_lock
    from wherry.build.source.options import options_of
    from wherry.build.source.unpacking import file_name

    options = options_of(host.inputs)
    lock = fitting_lock(host.inputs, options)
    steps = {"kernel": kernel.SOURCE_STEP, "busybox": busybox.SOURCE_STEP, "libcap": libcap.SOURCE_STEP}
    found = []
    for role, origin in options.origins().items():
        name = _NAMES.get(role, role)
        if origin.url:
            file = file_name(origin)
            found.append(Unpacked(step=steps[role], name=name, origin=file, sha256=origin.sha256, files=(file,)))
            continue
        files = lock.of(role)
        first = next((file for file in files if file.file_name.endswith(".dsc")), files[0])
        found.append(
            Unpacked(
                step=steps[role],
                name=name,
                version=first.version,
                origin=first.file_name,
                sha256=first.sha256,
                files=tuple(file.file_name for file in files),
            )
        )
    return found


def facts_in(output: Path, step: str, unpacked: Sequence[Unpacked], architecture: str) -> list[Facts]:
    """Returns what the result of one step says of what was compiled.

    Raises:
        InvalidInput: it is malformed.
    """
    found = [read_facts(output / FOLDER)]
    if (output / BUILDROOT_FOLDER / MANIFEST).is_file():
        found.append(read_manifest(output / BUILDROOT_FOLDER, architecture=architecture))
    for source in unpacked:
        if source.step == step and (output / _TREE).is_dir():
            found.append(
                source_facts(
                    output / _TREE,
                    name=source.name,
                    version=source.version or source.origin,
                    architecture=architecture,
                    origin=source.origin,
                    sha256=source.sha256,
                )
            )
    return found


def result_facts(
    plan: Plan, cache: Path, unpacked: Sequence[Unpacked], architecture: str
) -> tuple[list[Facts], list[str]]:
    """Returns what the results of steps say of what was compiled, and the steps whose results are not there."""
    found, gone = [], []
    keys = plan.keys()
    for step in plan.steps:
        output = cache / "results" / keys[step.name] / "output"
        if not output.is_dir():
            gone += [step.name] if step.kept else []
            continue
        found += [_of_layer(facts, step.layer) for facts in facts_in(output, step.name, unpacked, architecture)]
    return found, gone


def _of_layer(facts: Facts, layer: str) -> Facts:
    named: Sequence[Component] = [
        item if item.layer or not layer else replace(item, layer=layer) for item in facts.components
    ]
    return replace(facts, components=tuple(named))
