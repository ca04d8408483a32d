"""Builds a host: takes the steps, commits the root to the workspace's store, and lays out what was made.

What a person sees in ``output/`` is replaced file by file, each by one rename(2), and ``host.json`` last: whoever reads
it finds what it names. An image that is what it was before is left alone, so that a machine that was booted from it
keeps what it has written there; another one takes its place whole.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wherry.build.executing import remove_tree
from wherry.build.hosts import command_line
from wherry.build.hosttree import TREE
from wherry.build.imagesteps import POST, Made, copy_image, image_steps, read_digest
from wherry.build.legal.step import LICENCES, policy_steps
from wherry.build.materials import host_provenance
from wherry.build.provenance import FILE as PROVENANCE_FILE
from wherry.build.provenance import METADATA_KEY
from wherry.core import trace
from wherry.core.digest import Checksum, Ref
from wherry.core.durable import fsync_dir, make_dirs, map_os_error, write_file
from wherry.core.errors import InvalidInput, NotFound
from wherry.core.jsonio import pretty
from wherry.core.lock import file_lock
from wherry.core.progress import QUIET, Progress
from wherry.spec.codec import encode
from wherry.spec.host_record import (
    FILE,
    FORMAT,
    BoardRecord,
    BootRecord,
    HostRecord,
    ImageRecord,
    MachineRecord,
    read_host_record,
)

if TYPE_CHECKING:
    from wherry.build.executing import Execution, Result
    from wherry.build.hosts import Host
    from wherry.build.steps import Plan
    from wherry.store.repository import Repository

STEPS_FILE = "steps.json"
_TREE_KEY = "wherry.host.tree"
"""In a commit's metadata: the key of the step that its root is the result of."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Built:
    """What a build has made."""

    record: HostRecord
    results: Mapping[str, Result]


def whole_plan(host: Host, images: Sequence[str] | None = None) -> tuple[Plan, dict[str, Made]]:
    """Returns the plan of a host with its images, and where each image is that is wanted.

    Args:
        host: the host.
        images: names of images; None: those that ``host.yaml`` names, or all of the layout.

    Raises:
        NotFound: the layout has no such image.
        InvalidInput: the policy of licences is malformed.
    """
    plan = host.plan()
    plan = replace(plan, steps=(*plan.steps, *policy_steps(host, plan)))
    steps, made = image_steps(host, plan, list(images if images is not None else host.file.images) or None)
    return replace(plan, steps=(*plan.steps, *steps)), made


def build(
    host: Host, execution: Execution, *, images: Sequence[str] | None = None, progress: Progress = QUIET
) -> Built:
    """Builds a host and its images.

    Args:
        host: the host.
        execution: takes the steps.
        images: which images; see `whole_plan`.
        progress: is told of the commit.

    Raises:
        StepFailed: a step failed.
        Locked: another build of this workspace is going on.
        NoSpace: the disk is full.
    """
    workspace = host.workspace
    make_dirs(workspace.work)
    with file_lock(workspace.work / "lock", timeout_s=0, what=f"the workspace {workspace.name}"):
        plan, made = whole_plan(host, images)
        checks = [step.name for step in plan.steps if step.name == LICENCES]
        wanted = [TREE if plan.root else "", plan.boot, *checks, *(each.step for each in made.values())]
        results = execution.take(plan, dict.fromkeys(name for name in wanted if name))
        _write_steps(workspace.work / STEPS_FILE, results.values())
        commit = commit_root(host, results[TREE], progress) if plan.root else None
        try:
            record = _lay_out(host, plan, results, made, commit)
        except OSError as error:
            raise map_os_error(error, "cannot lay out what was built", where=error.filename) from error
        return Built(record=record, results=results)


def store_of(host: Host) -> Repository:
    """Returns the workspace's store, made when it is missing."""
    from wherry.store.format.objects import Mode
    from wherry.store.repository import Repository

    return Repository.init(host.workspace.work / "store", Mode.BARE_USER)


def commit_root(host: Host, tree: Result, progress: Progress = QUIET) -> Checksum:
    """Commits a host's root to the workspace's store, unless it is what the store has; moves ``host/NAME``.

    Raises:
        InvalidInput: something in it cannot be committed; names it.
    """
    from wherry.store.tree.commit import commit_tree, write_directory

    repo = store_of(host)
    ref = Ref(f"host/{host.workspace.name}")
    before = repo.resolve(ref) if ref in repo.refs() else None
    last = repo.load_commit(before) if before is not None else None
    if last is not None and last.metadata.get(_TREE_KEY) == tree.key:
        whole = last.tree, last.meta
    else:
        whole = write_directory(repo, tree.path / "root", progress=progress)
    metadata = {
        _TREE_KEY: tree.key,
        "wherry.host.architecture": host.inputs.architecture.name,
        METADATA_KEY: host_provenance(host, tree=whole[0]),
    }
    if before is not None and last is not None and all(last.metadata.get(key) == metadata[key] for key in metadata):
        return before
    return commit_tree(
        repo,
        *whole,
        timestamp_s=host.inputs.epoch,
        subject=f"{host.workspace.name}: {' '.join(host.layers)}"[:200],
        metadata=metadata,
        ref=ref,
        bind_ref=False,
    )


def _lay_out(
    host: Host, plan: Plan, results: Mapping[str, Result], made: Mapping[str, Made], commit: Checksum | None
) -> HostRecord:
    output = host.workspace.output
    make_dirs(output / "images")
    boot = results[plan.boot].path / "boot" if plan.boot else None
    before = _record_before(host)
    files = {name: (results[each.step].path / each.file, each.kind) for name, each in made.items()}
    if POST in results:
        known = {path.name for path, _ in files.values()}
        added = (path for path in sorted(results[POST].path.iterdir()) if path.is_file() and path.name not in known)
        files |= {path.name: (path, "file") for path in added}
    images = {
        name: _lay_image(host, path, kind, before.images.get(name) if before else None)
        for name, (path, kind) in files.items()
    }
    if boot is not None:
        _replace_folder(boot, output / "boot")
    record = HostRecord(
        format=FORMAT,
        name=host.workspace.name,
        architecture=host.inputs.architecture.name,
        builder=host.builder.name,
        target=",".join(host.file.target),
        board=_board_record(host),
        boot=BootRecord(
            kernel=_there(output, "boot/kernel"),
            initramfs=_there(output, "boot/initramfs"),
            device_trees=_there(output, "boot/dtb"),
            command_line=command_line(host.board),
        ),
        images=images,
        commit=commit or "",
        extra={"layers": list(host.layers)},
    )
    said = host_provenance(
        host,
        commit=record.commit,
        images={image.path.removeprefix("output/"): image.sha256 for image in images.values()},
    )
    write_file(host.workspace.path / PROVENANCE_FILE, said + b"\n")
    trace.reach("build.output.record")
    write_file(host.workspace.path / FILE, (pretty(encode(record)) + "\n").encode())
    kept = {Path(image.path).name for image in images.values()}
    for path in (output / "images").iterdir():
        if path.name not in kept:
            path.unlink()
    return record


def _record_before(host: Host) -> HostRecord | None:
    try:
        return read_host_record(host.workspace.path)
    except (NotFound, InvalidInput):
        return None


def _lay_image(host: Host, image: Path, kind: str, before: ImageRecord | None) -> ImageRecord:
    sha256 = read_digest(image)
    target = host.workspace.output / "images" / image.name
    record = ImageRecord(
        path=str(target.relative_to(host.workspace.path)),
        kind=kind,
        size_bytes=image.stat().st_size,
        sha256=sha256,
    )
    if before is not None and before.sha256 == sha256 and before.path == record.path and target.exists():
        return record  # whoever has booted from it keeps what it has written
    new = target.with_name(f".{target.name}.new")
    new.unlink(missing_ok=True)
    copy_image(image, new)
    fd = os.open(new, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
    os.rename(new, target)
    fsync_dir(target.parent)
    return record


def _replace_folder(source: Path, target: Path) -> None:
    new, old = target.with_name(f".{target.name}.new"), target.with_name(f".{target.name}.old")
    for path in (new, old):
        remove_tree(path)
    shutil.copytree(source, new, symlinks=True)
    if target.exists():
        os.rename(target, old)
    os.rename(new, target)
    fsync_dir(target.parent)
    remove_tree(old)


def _there(output: Path, name: str) -> str:
    return f"output/{name}" if (output / name).exists() else ""


def _board_record(host: Host) -> BoardRecord:
    board, machine = host.board, host.board.machine
    return BoardRecord(
        title=board.title,
        console=board.console,
        command_line=board.command_line,
        device_tree=board.device_tree,
        boot=board.boot.value,
        machine=MachineRecord(
            machine=machine.machine,
            cpu=machine.cpu,
            cpus=machine.cpus,
            memory=machine.memory,
            firmware=machine.firmware,
            drive=machine.drive,
            console=machine.console,
            note=machine.note,
        ),
    )


def _write_steps(path: Path, results: Iterable[Result]) -> None:
    rows: list[dict[str, Any]] = [
        {
            "name": result.step.name,
            "what": result.step.what,
            "key": result.key,
            "layer": result.step.layer,
            "needs": list(result.step.needs),
            "cached": result.cached,
            "seconds": round(result.seconds, 3),
            "started_s": round(result.started_s, 3),
            "size_bytes": result.size_bytes,
        }
        for result in results
    ]
    write_file(path, (pretty(rows) + "\n").encode())
