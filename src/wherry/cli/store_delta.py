"""``wherry store static-delta``: make, look at, apply and remove deltas between commits."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from wherry.cli.context import settings
from wherry.cli.sizes import glib_size
from wherry.cli.store import SubcommandGroup, open_repo, repo_option
from wherry.cli.store_sign import DEFAULT_TYPE, key_options, signing, verifier
from wherry.core.errors import TrustError, UsageError, WherryError

if TYPE_CHECKING:
    from wherry.store.repository import Repository
    from wherry.store.static_delta.generate import Report, Sign
    from wherry.store.static_delta.superblock import Endianness, PartHeader, Superblock

_MEGABYTE = 1_000_000
_MAX_MEGABYTES = 1_000_000


@click.group(
    cls=SubcommandGroup,
    name="static-delta",
    epilog="""\b
Examples:
  wherry store static-delta generate --repo=repo --from=os/main^ --to=os/main
  wherry store static-delta list --repo=repo""",
)
@repo_option
@click.pass_context
def static_delta(ctx: click.Context, repo_path: str | None) -> None:
    """Make, apply and remove deltas between commits."""
    if repo_path is not None:
        ctx.meta["wherry.store.repo"] = repo_path


@static_delta.command(name="list", epilog="\b\nExample:\n  wherry store static-delta list --repo=repo")
@repo_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_(repo_path: str | None, as_json: bool) -> None:
    """List static delta files."""
    from wherry.store.static_delta.names import delta_name, list_deltas

    found = list_deltas(open_repo(repo_path))
    if as_json:
        from wherry.cli.output import print_json

        print_json([delta_name(*name) for name in found])
        return
    for name in found:
        print(delta_name(*name))
    if not found:
        print("(No static deltas)")


@static_delta.command(epilog="\b\nExample:\n  wherry store static-delta indexes --repo=repo")
@repo_option
def indexes(repo_path: str | None) -> None:
    """List static delta indexes."""
    from wherry.store.static_delta.names import list_indexes

    found = list_indexes(open_repo(repo_path))
    for target in found:
        print(target)
    if not found:
        print("(No static deltas indexes)")


@static_delta.command(epilog="\b\nExample:\n  wherry store static-delta reindex --repo=repo")
@repo_option
@click.option("--to", "target", metavar="REV", help="Only the index of the deltas to this commit.")
def reindex(repo_path: str | None, target: str | None) -> None:
    """Regenerate static delta indexes."""
    from wherry.store.static_delta.index import reindex as make

    repo = open_repo(repo_path)
    make(repo, repo.resolve(target) if target else None)


@static_delta.command(epilog="\b\nExample:\n  wherry store static-delta delete --repo=repo FROM-TO")
@repo_option
@click.argument("delta", required=False)
def delete(repo_path: str | None, delta: str | None) -> None:
    """Remove a delta."""
    from wherry.store.static_delta.names import delete_delta, parse_delta_name

    if delta is None:
        raise UsageError("DELTA must be specified")
    delete_delta(open_repo(repo_path), parse_delta_name(delta))


@static_delta.command(epilog="\b\nExample:\n  wherry store static-delta show --repo=repo FROM-TO")
@repo_option
@click.argument("delta", required=False)
def show(repo_path: str | None, delta: str | None) -> None:
    """Dump information on a delta."""
    if delta is None:
        raise UsageError("DELTA must be specified")
    from wherry.store.static_delta.apply import open_superblock
    from wherry.store.static_delta.superblock import Endianness

    repo = open_repo(repo_path)
    block, folder = open_superblock(_place(repo, delta))
    print(f"Delta: {delta}")
    print(f"Signed: {'yes' if block.signed else 'no'}")
    print(f"From: {block.origin}" if block.origin else "From <scratch>")
    print(f"To: {block.target}")
    order = "little" if block.endianness is Endianness.LITTLE else "big"
    print(f"Endianness: {order}{' (heuristic)' if block.endianness_guessed else ''}")
    print(f"Timestamp: {block.timestamp_s}")
    print(f"Number of parents: {block.parents}")
    print(f"Number of fallback entries: {len(block.fallbacks)}")
    for item in block.fallbacks:
        print(f"  {item.checksum}")
    _total("Fallback Size", sum(item.size_bytes for item in block.fallbacks))
    _total("Fallback Uncompressed Size", sum(item.unpacked_bytes for item in block.fallbacks))
    print(f"Number of parts: {len(block.parts)}")
    for part in block.parts:
        _show_part(repo, part, folder)
    _total("Part Size", sum(part.size_bytes for part in block.parts))
    _total("Part Uncompressed Size", sum(part.unpacked_bytes for part in block.parts))
    _total("Size", block.size_bytes)
    _total("Uncompressed Size", block.unpacked_bytes)


def _show_part(repo: Repository, part: PartHeader, folder: Path) -> None:
    from wherry.store.static_delta.ops import count
    from wherry.store.static_delta.part import PartFile

    number = part.index
    print(f"PartMeta{number}: nobjects={len(part)} size={part.size_bytes} usize={part.unpacked_bytes}")
    source = part.inline if part.inline is not None else folder / str(number)
    with PartFile(part, source, folder=repo.path / "tmp", check=False) as opened:
        print(
            f"PartPayload{number}: nmodes={opened.mode_count} nxattrs={opened.xattrs_count} "
            f"blobsize={opened.blob_bytes} opsize={opened.ops_bytes}"
        )
        times = list(count(opened.ops(), part.objects).values())
    names = ("openspliceclose", "open", "write", "setread", "unsetread", "close", "bspatch")
    text = " ".join(f"{name}={number_of}" for name, number_of in zip(names, times, strict=True))
    print(f"PartPayloadOps{number}: {text}")


def _total(what: str, size: int) -> None:
    print(f"Total {what}: {size} ({glib_size(size)})")


def _place(repo: Repository, delta: str) -> Path:
    """Returns where a superblock lies: a path has a slash in it, anything else is FROM-TO or TO."""
    if "/" in delta:
        return Path(delta)
    from wherry.store.static_delta.names import delta_path, parse_delta_name

    return repo.path / delta_path(*parse_delta_name(delta))


# --- applying


@static_delta.command(epilog="\b\nExample:\n  wherry store static-delta apply-offline --repo=repo delta/superblock")
@repo_option
@click.option("--sign-type", metavar="NAME", help="How it is signed (ed25519).")
@key_options
@click.argument("path", type=click.Path(path_type=Path), required=False)
@click.argument("keys", nargs=-1, metavar="[PUBLIC-KEY]...")
def apply_offline(
    repo_path: str | None,
    sign_type: str | None,
    keys_file: Path | None,
    keys_dir: Path | None,
    path: Path | None,
    keys: tuple[str, ...],
) -> None:
    """Apply static delta file."""
    from wherry.store.static_delta.apply import apply_offline as apply

    if path is None:
        raise UsageError("PATH must be specified")
    repo = open_repo(repo_path)
    engine = None
    try:
        engine = verifier(sign_type or DEFAULT_TYPE, keys, keys_file, keys_dir)
    except WherryError:
        if sign_type is not None or keys or keys_file is not None or keys_dir is not None:
            raise  # no keys were asked for, and the system has none: nothing to verify with

    def verify(block: Superblock) -> None:
        from wherry.store.sign import verify_data

        must = repo.config.get_bool("core", "sign-verify-deltas", False)
        if must and not block.signed:
            raise TrustError("the delta is not signed", where=path, hint="core.sign-verify-deltas asks for it")
        if must and engine is None:
            raise TrustError("Key is mandatory to check delta signature", where=path, hint="give --keys-file")
        if engine is not None and block.signed:
            verify_data(engine, bytes(block.signed_bytes), block.signatures)

    apply(repo, path, verify=verify, progress=settings().progress())


@static_delta.command(
    epilog="\b\nExample:\n  wherry store static-delta verify --repo=repo --keys-file=trusted.pub FROM-TO"
)
@repo_option
@click.option("--sign-type", default=DEFAULT_TYPE, metavar="NAME", help="How it is signed (ed25519).")
@key_options
@click.argument("delta", metavar="STATIC-DELTA", required=False)
@click.argument("keys", nargs=-1, metavar="[PUBLIC-KEY]...")
def verify(
    repo_path: str | None,
    sign_type: str,
    keys_file: Path | None,
    keys_dir: Path | None,
    delta: str | None,
    keys: tuple[str, ...],
) -> None:
    """Verify static delta signatures."""
    from wherry.store.sign import signatures_of
    from wherry.store.static_delta.apply import open_superblock

    if delta is None:
        raise UsageError("DELTA must be specified")
    repo = open_repo(repo_path)
    engine = verifier(sign_type, keys, keys_file, keys_dir)
    block, _ = open_superblock(_place(repo, delta))
    try:
        if not block.signed:
            raise TrustError("no signatures in static-delta", where=delta)
        signatures = signatures_of(block.signatures, engine.name)
        if signatures is None:
            raise TrustError(f"no signature for '{engine.key}' in static-delta superblock", where=delta)
        engine.verify(bytes(block.signed_bytes), signatures)
    except TrustError:
        print("Verification fails")
        raise
    print("Verification OK")


# --- making


@static_delta.command(
    epilog="""\b
Examples:
  wherry store static-delta generate --repo=repo os/main
  wherry store static-delta generate --repo=repo --from=os/1 --to=os/2 --inline --filename=update.delta
  wherry store static-delta generate --repo=repo --empty os/main"""
)
@repo_option
@click.option("--from", "origin", metavar="REV", help="From this commit; else from the parent of TO.")
@click.option("--empty", is_flag=True, help="From nothing.")
@click.option("--inline", is_flag=True, help="All in one file.")
@click.option("--to", "to", metavar="REV", help="To this commit.")
@click.option("--disable-bsdiff", is_flag=True, help="Make no patches; faster and larger.")
@click.option("-n", "--if-not-exists", is_flag=True, help="Do nothing when it is there.")
@click.option("--set-endianness", metavar="ENDIAN", help="How sizes are written: l (little, the default) or B (big).")
@click.option("--swap-endianness", is_flag=True, help="Write sizes the other way round.")
@click.option("--min-fallback-size", metavar="MB", help="Larger new files are fetched by themselves (4; 0: none).")
@click.option("--max-bsdiff-size", metavar="MB", help="No patches for larger files, old and new together (128).")
@click.option("--max-chunk-size", metavar="MB", help="The most in a part, before compression (32).")
@click.option("--filename", type=click.Path(path_type=Path), metavar="PATH", help="Write the superblock here.")
@click.option(
    "--sign", "sign_keys", multiple=True, metavar="KEY", help="Sign with this secret key (seen by all in ps)."
)
@click.option("--sign-type", default=DEFAULT_TYPE, metavar="NAME", help="How to sign (ed25519).")
@click.option("--keys-file", type=click.Path(path_type=Path), metavar="FILE", help="Sign with these secret keys.")
@click.argument("rev", metavar="[TO]", required=False)
def generate(
    repo_path: str | None,
    origin: str | None,
    empty: bool,
    inline: bool,
    to: str | None,
    disable_bsdiff: bool,
    if_not_exists: bool,
    set_endianness: str | None,
    swap_endianness: bool,
    min_fallback_size: str | None,
    max_bsdiff_size: str | None,
    max_chunk_size: str | None,
    filename: Path | None,
    sign_keys: tuple[str, ...],
    sign_type: str,
    keys_file: Path | None,
    rev: str | None,
) -> None:
    """Generate static delta files."""
    from wherry.store.static_delta import names
    from wherry.store.static_delta.generate import Options
    from wherry.store.static_delta.generate import generate as make

    to = to or rev
    if to is None:
        raise UsageError("TO revision must be specified")
    if empty and origin is not None:
        raise UsageError("Cannot specify both --empty and --from=REV")
    repo = open_repo(repo_path)
    source = None if empty else repo.resolve(origin if origin is not None else f"{to}^")
    target = repo.resolve(to)
    if if_not_exists and filename is None and names.exists(repo, (source, target)):
        print(f"Delta {names.delta_name(source, target)} already exists.")
        return
    options = Options(
        min_fallback_bytes=_megabytes(min_fallback_size, 4, "--min-fallback-size"),
        max_bsdiff_bytes=0 if disable_bsdiff else _megabytes(max_bsdiff_size, 128, "--max-bsdiff-size"),
        max_chunk_bytes=_megabytes(max_chunk_size, 32, "--max-chunk-size"),
        inline=inline,
        endianness=_endianness(set_endianness, swap_endianness),
    )
    sign = _signing(sign_type, sign_keys, keys_file)
    print(f"Generating static delta:\n  From: {source or 'empty'}\n  To:   {target}", flush=True)
    report = make(repo, source, target, options=options, path=filename, sign=sign, progress=settings().progress())
    _print_report(report)


def _endianness(text: str | None, swap: bool) -> Endianness:
    from wherry.store.static_delta.superblock import Endianness

    if text is not None and text not in ("l", "B"):
        raise UsageError(f"Invalid endianness '{text}'", hint="it is l or B")
    found = Endianness(text or "l")
    if swap:
        return Endianness.BIG if found is Endianness.LITTLE else Endianness.LITTLE
    return found


def _megabytes(text: str | None, default: int, option: str) -> int:
    if text is None:
        return default * _MEGABYTE
    if not text.isascii() or not text.isdigit() or int(text) > _MAX_MEGABYTES:
        raise UsageError(f"{option} is not a number of megabytes: {text!r}")
    return int(text) * _MEGABYTE


def _signing(name: str, keys: tuple[str, ...], keys_file: Path | None) -> Sign | None:
    found = signing(name, keys, keys_file)
    if found is None:
        return None
    from wherry.store.format.variant import Variant
    from wherry.store.static_delta.superblock import build_signed

    engine, secrets = found

    def sign(superblock: bytes) -> bytes:
        signatures = [engine.sign(superblock, secret) for secret in secrets]
        return build_signed(superblock, {engine.key: Variant("aay", signatures)})

    return sign


def _print_report(report: Report) -> None:
    lines = [
        f"modified: {report.modified}",
        f"new: metadata={report.new_metadata} content regular={report.new_files} symlink={report.new_symlinks}",
    ]
    for number, part in enumerate(report.parts, 1):
        lines.append(
            f"part {number} n:{len(part.object_bytes) // 33} compressed:{part.size_bytes} "
            f"uncompressed:{part.unpacked_bytes}"
        )
    lines.append(
        f"uncompressed={report.unpacked_bytes} compressed={report.compressed_bytes} loose={report.loose_bytes}"
    )
    lines.append(f"rollsum={report.copied} objects, {report.copied_bytes} bytes")
    lines.append(f"bsdiff={report.patched} objects")
    if report.fallbacks:
        size = sum(item.size_bytes for item in report.fallbacks)
        lines.append(f"fallback={len(report.fallbacks)} objects, {size} bytes")
    print("\n".join(lines), file=sys.stderr)
