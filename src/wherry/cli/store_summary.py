"""``wherry store summary``, and how a summary is shown."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from wherry.cli.output import print_json
from wherry.cli.store import NO_GPG, open_repo, refused_option, repo_option, split_pair
from wherry.core.errors import NotFound, UsageError

if TYPE_CHECKING:
    from wherry.store.summary import Summary, SummaryEntry

_LABELS = {
    "ostree.summary.mode": "Repository Mode",
    "ostree.summary.tombstone-commits": "Has Tombstone Commits",
    "ostree.summary.last-modified": "Last-Modified",
    "ostree.summary.expires": "Expires",
    "ostree.static-deltas": "Static Deltas",
    "ostree.summary.collection-id": "Collection ID",
}
_COLLECTION_MAP = "ostree.summary.collection-map"


@click.command(
    epilog="""\b
Examples:
  wherry store summary --repo=repo -u
  wherry store summary --repo=repo -u --keys-file=secret.key -m 'exampleos.end-of-life="@t 1445385600"'
  wherry store summary --repo=repo -v"""
)
@repo_option
@click.option("-u", "--update", is_flag=True, help="Write it anew.")
@click.option("-v", "--view", is_flag=True, help="Show it.")
@click.option("--raw", is_flag=True, help="Show it as GVariant text.")
@click.option("--list-metadata-keys", is_flag=True, help="List the keys of its metadata.")
@click.option("--print-metadata-key", metavar="KEY", help="Print one value of its metadata.")
@click.option("-m", "--add-metadata", "pairs", multiple=True, metavar="KEY=VALUE",
              help="With --update: further metadata; the value as GVariant text.")  # fmt: skip
@click.option("--sign", "secrets", multiple=True, metavar="SECRET", help="With --update: sign it with this key.")
@click.option("--keys-file", type=click.Path(path_type=Path), metavar="FILE",
              help="With --update: sign it with the secret keys in this file.")  # fmt: skip
@click.option("--sign-type", default="ed25519", metavar="NAME", help="The kind of signature.")
@refused_option("--gpg-sign", reason=NO_GPG, metavar="KEY-ID")
@refused_option("--gpg-homedir", reason=NO_GPG, metavar="HOMEDIR")
@click.option("--json", "as_json", is_flag=True, help="With --view: print JSON.")
def summary(
    repo_path: str | None,
    update: bool,
    view: bool,
    raw: bool,
    list_metadata_keys: bool,
    print_metadata_key: str | None,
    pairs: tuple[str, ...],
    secrets: tuple[str, ...],
    keys_file: Path | None,
    sign_type: str,
    as_json: bool,
) -> None:
    """Write or show the summary that a remote reads."""
    from wherry.store import summary as module

    repo = open_repo(repo_path)
    shows = view or raw or list_metadata_keys or print_metadata_key is not None
    if not update and not shows:
        raise UsageError("No option specified; use -u to update summary")
    if update:
        from wherry.cli.store_sign import signing
        from wherry.store.format.vparse import parse_text

        found = signing(sign_type, secrets, keys_file)
        metadata = {}
        for item in pairs:
            key, value = split_pair(item, "--add-metadata")
            metadata[key] = parse_text(value, where=item)
        module.update_metadata_ref(repo, metadata)
        module.update_summary(repo, metadata=metadata)
        if found is not None:
            from wherry.store.sign import sign_summary

            sign_summary(repo, *found)
    if shows:
        path = repo.path / "summary"
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            raise NotFound("no summary", where=repo.path, hint="make one with --update") from None
        if as_json:
            _print_as_json(module.parse_summary(data, where=path))
        else:
            print_summary(data, path, raw=raw, keys=list_metadata_keys, key=print_metadata_key)


def print_summary(data: bytes, where: str | Path, *, raw: bool, keys: bool, key: str | None) -> None:
    """Prints a summary, or what is asked of it.

    Args:
        data: the summary.
        where: what it is, for errors.
        raw: as GVariant text.
        keys: only the keys of its metadata.
        key: only the value of this key.

    Raises:
        NotFound: there is no such key.
        InvalidInput: it is malformed.
    """
    from wherry.store.format.variant import decode
    from wherry.store.format.vtext import byteswapped, to_text, variant_text
    from wherry.store.summary import SUMMARY_TYPE, parse_summary

    if raw:
        value = decode(SUMMARY_TYPE, data, where=where)
        print(to_text(SUMMARY_TYPE, byteswapped(SUMMARY_TYPE, value)))
        return
    parsed = parse_summary(data, where=where)
    if keys:
        for name in sorted(parsed.metadata):
            print(name)
    elif key is not None:
        metadata = decode(SUMMARY_TYPE, data, where=where)[1]
        if key not in metadata:
            raise NotFound(f"No such metadata key '{key}'", where=where)
        print(variant_text(metadata[key]))
    else:
        _print(parsed)


def _print_as_json(parsed: Summary) -> None:
    print_json([{"ref": item.ref, "commit": item.commit, "timestamp_s": item.timestamp_s} for item in parsed.refs])


def _print(parsed: Summary) -> None:
    for item in parsed.refs:
        _print_ref(item, parsed.collection_id)
    for collection, entries in sorted(parsed.mirrored.items()):
        for item in entries:
            _print_ref(item, collection)
    for name, value in parsed.metadata.items():
        if name != _COLLECTION_MAP:
            label = _LABELS.get(name)
            print(f"{label} ({name}): {_value(name, value)}" if label else f"{name}: {_value(name, value)}")


def _print_ref(item: SummaryEntry, collection: str) -> None:
    from wherry.store.format.variant import from_plain
    from wherry.store.format.vtext import variant_text
    from wherry.store.summary import TIMESTAMP, VERSION

    print(f"* ({collection}, {item.ref})" if collection else f"* {item.ref}")
    print(f"    Latest Commit ({_size(item.commit_bytes)}):\n      {item.commit}")
    for name, value in item.metadata.items():
        if name == TIMESTAMP and item.timestamp_s is not None:
            print(f"    Timestamp ({name}): {_time(item.timestamp_s)}")
        elif name == VERSION:
            print(f"    Version ({name}): {value}")
        else:
            print(f"    {name}: {variant_text(from_plain(value))}")
    print()


def _value(name: str, value: Any) -> str:
    from wherry.store.format.variant import from_plain
    from wherry.store.format.vtext import to_text
    from wherry.store.summary import swap64

    if name in ("ostree.summary.last-modified", "ostree.summary.expires") and isinstance(value, int):
        return _time(swap64(value))
    if name == "ostree.summary.tombstone-commits":
        return "Yes" if value else "No"
    if name in ("ostree.summary.mode", "ostree.summary.collection-id") and isinstance(value, str):
        return value
    variant = from_plain(value)
    return to_text(variant.type, variant.value, annotate=False)


def _time(timestamp_s: int) -> str:
    try:
        return datetime.fromtimestamp(timestamp_s, UTC).strftime("%Y-%m-%dT%H:%M:%S+00")
    except (ValueError, OverflowError, OSError):
        return str(timestamp_s)


def _size(count: int) -> str:
    from wherry.cli.sizes import glib_size

    return glib_size(count)
