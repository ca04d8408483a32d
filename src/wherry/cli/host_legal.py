"""``wherry host legal-info`` and ``sbom``: on which terms a host may be passed on, and what is in it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from wherry.cli.context import settings
from wherry.cli.host_context import cache_folder, cache_option, find_workspace, load, workspace_argument
from wherry.cli.output import note, print_json, print_table
from wherry.core.errors import UsageError, WherryError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from wherry.build.hosts import Host
    from wherry.build.legal.bundle import Bundle
    from wherry.build.legal.component import Component
    from wherry.build.legal.gathering import Gathered
    from wherry.build.legal.sources import Fetched
    from wherry.build.workspace import Workspace
    from wherry.spec.host_record import HostRecord

BUNDLE = "output/legal-info.tar.zst"
_FORMATS = ("cyclonedx", "spdx")
_SHOWN_WARNINGS = 5


@click.command("legal-info")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    metavar="DIR|FILE",
    help=f"A new folder, or FILE.tar, .tar.gz or .tar.zst.  [default: {BUNDLE} in the workspace]",
)
@click.option("--sources", is_flag=True, help="Fetch the sources of Debian's packages into it, too.")
@click.option("--check", "only_check", is_flag=True, help="Write nothing; check the policy of host.yaml.")
@click.option("--json", "as_json", is_flag=True, help="Print the components as JSON; write nothing without -o.")
@cache_option
@workspace_argument
def legal_info(
    output: Path | None, sources: bool, only_check: bool, as_json: bool, cache: str | None, workspace: str | None
) -> None:
    """Write the licence bundle of a host: texts, a manifest, and the sources.

    It is of the host as it was built last. What is not free software is marked, what could not be read is told. With
    --check the exit status is 5 when the policy in host.yaml, licences, forbids something.

    \b
    Examples:
      wherry host legal-info my-device
      wherry host legal-info my-device -o licences.tar.zst --sources
      wherry host legal-info my-device --check
    """
    from wherry.build.legal.bundle import is_archive, write_archive, write_folder

    if only_check and (output is not None or sources):
        raise UsageError("--check writes nothing", hint="leave out -o and --sources")
    found = find_workspace(workspace)
    host, record, gathered = _gather(found, cache, ask=True)
    _tell(gathered.facts.warnings)
    if only_check:
        _check(host, gathered.facts.components)
        return
    if as_json and output is None:
        if sources:
            raise UsageError("--sources needs a place", hint="give -o")
        print_json(gathered.facts.components)
        return
    bundle = _bundle(host, record, gathered, cache, sources=sources)
    target = output or found.path / BUNDLE
    if is_archive(target):
        write_archive(bundle, target, epoch=host.inputs.epoch)
    else:
        write_folder(bundle, target)
    if as_json:
        print_json(gathered.facts.components)
    else:
        _print_summary(gathered.facts.components)
    note(f"{target}: {len(bundle.files)} files, {len(bundle.sources)} of sources", quiet=settings().quiet)


@click.command()
@click.option(
    "--format", "format_", type=click.Choice(_FORMATS), default="cyclonedx", show_default=True, help="What to write."
)
@click.option("--image", metavar="NAME", default="", help="Of this image; without it, of the host.")
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), metavar="FILE", help="Where to; else to standard output."
)
@cache_option
@workspace_argument
def sbom(format_: str, image: str, output: Path | None, cache: str | None, workspace: str | None) -> None:
    """List what a host is made of: packages, kernel, firmware, layers, containers.

    CycloneDX is 1.6, SPDX is 2.3, both in JSON; the same host gives the same bytes. `wherry image sbom` does it for
    images of containers.

    \b
    Examples:
      wherry host sbom my-device > my-device.cdx.json
      wherry host sbom my-device --format spdx --image disk -o disk.spdx.json
    """
    from wherry.build.legal.bill import app_items, boot_items, host_inventory
    from wherry.build.provenance import layer_materials
    from wherry.core.durable import write_file

    found = find_workspace(workspace)
    host, record, gathered = _gather(found, cache)
    apps, unread = app_items(gathered.tree)
    inventory = host_inventory(
        gathered.inventory,
        record=record,
        image=image,
        epoch=host.inputs.epoch,
        compiled=gathered.compiled,
        layers=layer_materials(host.inputs.contributions.chain),
        boot_files=boot_items(found.path, record),
        apps=apps,
        warnings=unread,
    )
    _tell([f"{item.where}: {item.what}" for item in inventory.warnings])
    if format_ == "cyclonedx":
        from wherry.image.sbom.cyclonedx import to_cyclonedx

        data = to_cyclonedx(inventory)
    else:
        from wherry.image.sbom.spdx import to_spdx

        data = to_spdx(inventory)
    if output is not None:
        write_file(output, data)
    else:
        sys.stdout.write(data.decode())


def _gather(found: Workspace, cache: str | None, *, ask: bool = False) -> tuple[Host, HostRecord, Gathered]:
    """Returns a host, its record and what it is made of; with `ask`, Buildroot is asked for its part first."""
    from wherry.build.builder import BuilderName
    from wherry.build.legal.gathering import gather, unpacked_sources
    from wherry.spec.host_record import read_host_record

    settings().enter_home()
    record = read_host_record(found.path)
    host = load(found)
    lock = None
    if record.builder == BuilderName.DEBIAN:
        from wherry.build.debian.lock import read
        from wherry.build.debian.options import options_of

        lock = read(found.path / options_of(host.inputs).lock)
    if ask and host.builder.name is BuilderName.BUILDROOT:
        from wherry.cli.host_buildroot import ask_for_licences

        ask_for_licences(host, cache)
    try:
        plan, unpacked = host.plan(), unpacked_sources(host)
    except WherryError as error:
        plan, unpacked = None, []
        note(f"warning: what was compiled is not listed: {error}", quiet=settings().quiet)
    progress = settings().progress()
    gathered = gather(found, record, plan, cache=cache_folder(cache), unpacked=unpacked, lock=lock, progress=progress)
    return host, record, gathered


def _bundle(host: Host, record: HostRecord, gathered: Gathered, cache: str | None, *, sources: bool) -> Bundle:
    from wherry.build.legal.bundle import make_bundle
    from wherry.build.legal.sources import Fetched

    folder = cache_folder(cache) / "downloads/source"
    fetched = _fetch(host, gathered, folder) if sources else Fetched()
    for text in fetched.missing:
        note(f"warning: no source: {text}", quiet=settings().quiet)
    return make_bundle(
        record.name,
        gathered.facts,
        digest=record.commit,
        sources=fetched.packages,
        source_folder=folder,
        missing=fetched.missing,
    )


def _fetch(host: Host, gathered: Gathered, folder: Path) -> Fetched:
    from wherry.build.debian.options import options_of
    from wherry.build.debian.sources import sources_for
    from wherry.build.legal.sources import Fetched, fetch_sources, keep_archives, wanted_sources
    from wherry.core.durable import make_dirs
    from wherry.core.lock import file_lock

    wanted = wanted_sources(gathered.facts.components)
    archives = _archives(host, folder.parents[1])
    if archives:
        kept = [keep_archives(name, version, files, folder) for name, version, files in archives]
        return Fetched(packages=tuple(kept))
    if not wanted:
        raise UsageError(
            "no sources of this host are known", hint="leave out --sources; Buildroot's legal-info has its own"
        )
    stanzas = [source.stanza() for source in sources_for(options_of(host.inputs))]
    make_dirs(folder)
    with file_lock(folder / ".lock", what="the downloads of sources"):
        return fetch_sources(wanted, stanzas, folder, folder / ".apt", progress=settings().progress())


def _archives(host: Host, cache: Path) -> list[tuple[str, str, list[Path]]]:
    """Returns name, version and files of each source that a host was compiled from."""
    from wherry.build.legal.gathering import unpacked_sources
    from wherry.build.source.unpacking import SOURCES

    sources = unpacked_sources(host)
    if not sources:
        return []
    folder = cache / "results" / host.plan().keys()[SOURCES] / "output"
    return [(source.name, source.version or "own", [folder / name for name in source.files]) for source in sources]


def _check(host: Host, components: Sequence[Component]) -> None:
    from wherry.build.legal.policy import enforce, read_policy

    where = host.workspace.path / "host.yaml"
    policy = read_policy(host.file.licences, where=f"{where}: licences")
    if not policy:
        raise UsageError("no policy to check", where=where, hint="licences: {deny: [...]}")
    enforce(
        components,
        policy,
        host.inputs.contributions.packages,
        warn=lambda line: note(f"warning: {line}", quiet=settings().quiet),
    )
    note(f"{len(components)} components, nothing forbidden", quiet=settings().quiet)


def _tell(warnings: Sequence[str]) -> None:
    for text in warnings[:_SHOWN_WARNINGS]:
        note(f"warning: {text}", quiet=settings().quiet)
    if len(warnings) > _SHOWN_WARNINGS:
        note(f"warning: ... and {len(warnings) - _SHOWN_WARNINGS} more", quiet=settings().quiet)


def _print_summary(components: Sequence[Component]) -> None:
    closed = [item for item in components if item.proprietary]
    counts = (
        ("components", len(components)),
        ("declared licence", sum(bool(item.licence) and not item.guessed for item in components)),
        ("guessed licence", sum(item.guessed for item in components)),
        ("unknown licence", sum(not item.licence for item in components)),
        ("not free", len(closed)),
    )
    print_table(("WHAT", "COUNT"), [(what, str(count)) for what, count in counts])
    for item in closed:
        print(f"not free: {item.name} {item.version} ({item.proprietary})")
