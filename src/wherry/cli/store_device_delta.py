"""``wherry store delta``: Wherry's own deltas for devices. OSTree's are ``wherry store static-delta``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import click

from wherry.cli.output import print_json
from wherry.cli.store import SubcommandGroup, open_repo, repo_option
from wherry.core.errors import IntegrityError, TrustError, UsageError
from wherry.core.units import format_size, parse_size

if TYPE_CHECKING:
    from wherry.core.digest import Checksum
    from wherry.store.delta.apply import Verify
    from wherry.store.delta.format import Head
    from wherry.store.delta.job import Origin


@click.group(
    cls=SubcommandGroup,
    epilog="""\b
Examples:
  wherry store delta make --repo=repo --from=os/1 --to=os/2 -o 1-2.wdelta
  wherry store delta show 1-2.wdelta
  wherry store delta apply --repo=/var/lib/wherry/store 1-2.wdelta""",
)
def delta() -> None:
    """Wherry's deltas for devices: all that one commit needs beyond another, in one stream."""


@delta.command(
    epilog="""\b
Examples:
  wherry store delta make --repo=repo --from=os/1 --to=os/2 -o 1-2.wdelta
  wherry store delta make --repo=repo --to=os/2 --sign=owner.key -o 2.wdelta"""
)
@repo_option
@click.option("--from", "old", multiple=True, metavar="REV", help="What devices have; several may be given, or none.")
@click.option("--to", "new", multiple=True, required=True, metavar="REV", help="What they are to have.")
@click.option(
    "-o", "--output", required=True, type=click.Path(path_type=Path, dir_okay=False), help="The file to write."
)
@click.option("--without", multiple=True, metavar="NAME", help="A compressor that devices lack: gzip, zlib, lzma2 ...")
@click.option(
    "--encoder-memory",
    default="24m",
    show_default=True,
    metavar="SIZE",
    help="What a compressor may take on devices; what would take more is not seen through.",
)
@click.option("--threads", default=2, show_default=True, type=click.IntRange(1, 64), help="Threads at a time.")
@click.option("--quick", is_flag=True, help="Match once, compress by zstd alone: quicker, and somewhat longer.")
@click.option("--sign", "key_file", type=click.Path(path_type=Path), help="Sign it by the Ed25519 keys in a file.")
@click.option("--parent", type=click.IntRange(1), hidden=True, help="End when this process does, which started it.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def make(
    repo_path: str | None,
    old: tuple[str, ...],
    new: tuple[str, ...],
    output: Path,
    without: tuple[str, ...],
    encoder_memory: str,
    threads: int,
    quick: bool,
    key_file: Path | None,
    parent: int | None,
    as_json: bool,
) -> None:
    """Make a delta."""
    if parent is not None:
        _end_with(parent)
    from wherry.cli.context import settings
    from wherry.store.delta.encoders import NAMES
    from wherry.store.delta.make import MakeOptions, make_delta
    from wherry.store.sign import ED25519, engine, read_secrets

    unknown = sorted(set(without) - set(NAMES))
    if unknown:
        raise UsageError(f"no such compressor: {unknown[0]}", hint=f"there are {', '.join(NAMES)}")
    repo = open_repo(repo_path)
    signer = engine(ED25519)
    signers = [
        lambda data, secret=secret: signer.sign(data, secret) for secret in (read_secrets(key_file) if key_file else [])
    ]
    options = MakeOptions(
        encoders=tuple(name for name in NAMES if name not in without),
        encoder_bytes=parse_size(encoder_memory),
        threads=threads,
        strong=not quick,
        signers=signers,
    )
    head = make_delta(
        repo,
        [repo.resolve(rev) for rev in old],
        [repo.resolve(rev) for rev in new],
        output,
        options=options,
        progress=settings().progress(),
    )
    if as_json:
        print_json(_summary(head))
    else:
        print(f"{output}: {format_size(head.total)}, {head.header.objects} objects")


@delta.command(
    epilog="""\b
Examples:
  wherry store delta show 1-2.wdelta
  wherry store delta show --json https://updates.example.com/1-2.wdelta"""
)
@click.argument("file", metavar="FILE|URL")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def show(file: str, as_json: bool) -> None:
    """Show what a delta leads from and to, and what it costs."""
    from wherry.store.delta.job import read_head

    found = _summary(read_head(_origin(file), where=file))
    if as_json:
        print_json(found)
        return
    for key, value in found.items():
        for item in value if isinstance(value, list) else [value]:
            print(f"{key}: {format_size(item) if key.endswith('bytes') and isinstance(item, int) else item}")


@delta.command(
    epilog="""\b
Examples:
  wherry store delta verify --keys-file=owner.pub 1-2.wdelta"""
)
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--keys-file", type=click.Path(path_type=Path), help="Ed25519 public keys, base64, one a line.")
@click.option("--key", "keys", multiple=True, metavar="KEY", help="An Ed25519 public key, base64.")
def verify(file: Path, keys_file: Path | None, keys: tuple[str, ...]) -> None:
    """Check every part of a delta, and its signature when keys are given."""
    from wherry.store.delta.job import FileOrigin, read_head
    from wherry.store.delta.parts import check_part

    head = read_head(FileOrigin(file), where=file)
    if keys or keys_file is not None:
        print(_check_signature(head, keys, keys_file))
    offset = head.size
    with open(file, "rb", buffering=0) as stream:
        for number, part in enumerate(head.header.parts):
            check_part(stream, offset, part, where=f"{file}, part {number}")
            offset += part.size
        if stream.seek(0, 2) != head.total:
            raise IntegrityError("the delta has not the length that it names", where=file)
    print(f"{file}: {len(head.header.parts)} parts are whole")


@delta.command(
    epilog="""\b
Examples:
  wherry store delta apply --repo=/var/lib/wherry/store --ref=os/2 1-2.wdelta
  wherry store delta apply https://updates.example.com/1-2.wdelta"""
)
@repo_option
@click.argument("file", metavar="FILE|URL")
@click.option("--ref", "ref_name", metavar="REF", help="Set this ref to the commit.")
@click.option(
    "--keys-file", type=click.Path(path_type=Path), help="Who may have signed the delta; else nobody is asked."
)
@click.option("--key", "keys", multiple=True, metavar="KEY", help="An Ed25519 public key that may have signed it.")
@click.option("--sign-verify", is_flag=True, help="Its commits must be signed: by --commit-key, or the system's keys.")
@click.option("--commit-key", "commit_keys", multiple=True, metavar="KEY", help="An Ed25519 public key for that.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def apply(
    repo_path: str | None,
    file: str,
    ref_name: str | None,
    keys_file: Path | None,
    keys: tuple[str, ...],
    sign_verify: bool,
    commit_keys: tuple[str, ...],
    as_json: bool,
) -> None:
    """Apply a delta; goes on where it was cut off. With core.sign-verify-deltas set, it must be signed."""
    from wherry.cli.context import settings
    from wherry.core.digest import Ref
    from wherry.store.delta.apply import apply_delta
    from wherry.store.delta.job import read_head

    repo = open_repo(repo_path)
    origin = _origin(file)
    head = read_head(origin, where=file)
    if keys or keys_file is not None or repo.config.get_bool("core", "sign-verify-deltas", False):
        _check_signature(head, keys, keys_file)
    if ref_name is not None and len(head.header.to_commits) != 1:
        raise UsageError(f"the delta leads to {len(head.header.to_commits)} commits, so --ref does not fit")
    verify = _commit_verifier(commit_keys) if sign_verify or commit_keys else None
    stats = apply_delta(repo, head, origin, progress=settings().progress(), verify=verify)
    if ref_name is not None:
        repo.set_ref(Ref(ref_name), head.header.to_commits[0])
    if as_json:
        print_json(
            {
                "commits": list(head.header.to_commits),
                "bytes_received": stats.bytes_received,
                "objects": stats.objects,
                "present": stats.present,
            }
        )
    else:
        for commit in head.header.to_commits:
            print(commit)


def _end_with(parent: int) -> None:
    import os
    import signal

    from wherry.core.errors import Conflict
    from wherry.linux.process import set_parent_death_signal

    set_parent_death_signal(signal.SIGTERM)
    if os.getppid() != parent:  # it has ended before the call
        raise Conflict("the process that wanted the delta is gone")


def _origin(file: str) -> Origin:
    from wherry.store.delta.job import FileOrigin

    if "://" not in file:
        return FileOrigin(Path(file))
    from wherry.core.http import HttpClient
    from wherry.store.delta.origin import HttpOrigin

    parts = urlsplit(file)
    query = f"?{parts.query}" if parts.query else ""
    return HttpOrigin(HttpClient(f"{parts.scheme}://{parts.netloc}"), f"{parts.path}{query}")


def _check_signature(head: Head, keys: tuple[str, ...], keys_file: Path | None) -> str:
    from wherry.store.sign import ED25519, load_verifier

    if not head.signatures:
        raise TrustError("the delta is not signed")
    return load_verifier(ED25519, keys=keys, file=keys_file).verify(head.signed, head.signatures)


def _commit_verifier(keys: tuple[str, ...]) -> Verify:
    """Returns what refuses commits that none of the keys signed."""
    from wherry.store.sign import ED25519, load_verifier, verify_data

    engine = load_verifier(ED25519, keys=keys)

    def check(commit: Checksum, data: bytes, detached: Mapping[str, Any]) -> None:
        try:
            verify_data(engine, data, detached)
        except TrustError as error:
            raise TrustError(error.what, where=commit, hint=error.hint) from None

    return check


def _summary(head: Head) -> dict[str, object]:
    header = head.header
    return {
        "name": head.name,
        "from": list(header.from_commits),
        "to": list(header.to_commits),
        "bytes": head.total,
        "objects": header.objects,
        "disk_bytes": header.disk_bytes,
        "scratch_bytes": header.scratch_bytes,
        "parts": len(header.parts),
        "signatures": len(head.signatures),
        "encoders": [f"{encoder.name} {' '.join(map(str, encoder.numbers))}" for encoder in header.encoders],
    }
