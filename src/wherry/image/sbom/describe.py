"""From a tree to the inventory of it: every finder, in turn. Nothing of the image runs, and nothing is unpacked."""

from __future__ import annotations

import hashlib
import shlex
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from wherry.core import jsonio
from wherry.core.errors import InvalidInput
from wherry.core.progress import QUIET, Progress
from wherry.image.sbom.apk import find_apk
from wherry.image.sbom.dpkg import find_dpkg, owners
from wherry.image.sbom.findings import Findings, clean
from wherry.image.sbom.model import Inventory, Kind, System
from wherry.image.sbom.npm import find_npm
from wherry.image.sbom.programs import find_programs
from wherry.image.sbom.python import find_python
from wherry.image.sbom.rpm import find_rpm
from wherry.image.sbom.tree import Tree, Unreadable, commit_tree, directory_tree

if TYPE_CHECKING:
    from wherry.core.digest import Checksum
    from wherry.store.repository import Repository

OS_RELEASE = ("etc/os-release", "usr/lib/os-release")
MAX_OS_RELEASE_BYTES = 64 * 1024
FINDERS = (find_dpkg, find_apk, find_rpm, find_python, find_npm, find_programs)


def describe(repo: Repository, commit: Checksum, *, progress: Progress = QUIET) -> Inventory:
    """Returns what the image is made of that a commit is; a commit that is no image is described by its tree alone.

    Args:
        repo: where it lies.
        commit: its checksum.
        progress: is told how many of the finders are done.

    Raises:
        NotFound: the commit, or a part of it, is not there.
        Unsupported: a package for this is not installed.
    """
    from wherry.image.catalog import Images

    loaded = repo.load_commit(commit)
    try:
        record = Images(repo).record_of(commit)
    except InvalidInput:
        name, digest, created_s, platform = f"commit {commit[:12]}", f"sha256:{commit}", loaded.timestamp_s, ""
    else:
        name, digest, created_s = record.reference.familiar, str(record.digest), record.created_s
        platform = record.config.platform
    findings = find(commit_tree(repo, commit), progress)
    return findings.inventory(name=name, digest=digest, created=_utc(created_s), platform=platform)


def describe_directory(path: Path, *, progress: Progress = QUIET) -> Inventory:
    """Returns what the root tree in a directory is made of; its digest is one of what was found, its time 1970."""
    findings = find(directory_tree(path), progress)
    found = findings.inventory(name=path.absolute().name or "/", digest="", created=_utc(0), platform="")
    facts = [[item.key, item.licence, list(item.depends)] for item in found.components]
    digest = hashlib.sha256(jsonio.canonical([found.name, facts])).hexdigest()
    return replace(found, digest=f"sha256:{digest}")


def find(tree: Tree, progress: Progress = QUIET) -> Findings:
    """Runs every finder over a tree."""
    findings = Findings(_system(tree))
    for count, finder in enumerate(FINDERS):
        progress.update("looking for packages", count, len(FINDERS))
        finder(tree, findings)
    progress.update("looking for packages", len(FINDERS), len(FINDERS))
    _own(tree, findings)
    return findings


def _own(tree: Tree, findings: Findings) -> None:
    """Says of what the distribution brought which of its packages that was."""
    others = [item for item in findings.components() if item.kind not in (Kind.DEB, Kind.APK, Kind.RPM)]
    found = owners(tree, findings, {item.found_in for item in others})
    for item in others:
        if item.found_in in found:
            findings.put(item, replace(item, owner=found[item.found_in]))


def _system(tree: Tree) -> System:
    """Reads os-release(5)."""
    for path in OS_RELEASE:
        try:
            text = tree.read_text(path, max_bytes=MAX_OS_RELEASE_BYTES)
        except Unreadable:
            continue  # the other one may be there; without both the system is not known
        values: dict[str, str] = {}
        for line in text.split("\n"):
            name, equals, value = line.strip().partition("=")
            if not equals or name.startswith("#"):
                continue
            try:
                values[name] = clean("".join(shlex.split(value)[:1]))
            except ValueError:
                continue  # a quote without an end: as good as not there
        return System(
            identifier=values.get("ID", ""), version=values.get("VERSION_ID", ""), name=values.get("PRETTY_NAME", "")
        )
    return System()


def _utc(time_s: int) -> str:
    return datetime.fromtimestamp(min(time_s, 253402300799), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
