"""``wherry store log`` and ``show``, in ``ostree``'s own formats."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from wherry.cli.store import NO_GPG, open_repo, refused_option, repo_option
from wherry.core.errors import InvalidInput, NotFound

if TYPE_CHECKING:
    from wherry.core.digest import Checksum
    from wherry.store.format.objects import Commit, ObjectType
    from wherry.store.repository import Repository

_MAX_VARIANT_BYTES = 64 * 1024 * 1024
_KEY_OPTIONS = ("print_metadata_key", "print_detached_metadata_key")


def _print_commit(commit: Commit) -> None:
    """Prints a commit as ``ostree show`` does, but for the first line."""
    if commit.parent:
        print(f"Parent:  {commit.parent}")
    print(f"ContentChecksum:  {_content_checksum(commit)}")
    print(f"Date:  {_date(commit.timestamp_s)}")
    version = commit.metadata.get("version")
    if isinstance(version, str):
        print(f"Version: {version}")
    if commit.subject:
        print()
        _print_indented(commit.subject)
    else:
        print("(no subject)")
    if commit.body:
        print()
        _print_indented(commit.body)
    print()


def _print_indented(text: str) -> None:
    lines = text.split("\n")
    for line in lines if lines[-1] else lines[:-1]:
        print(f"    {line}")


def _content_checksum(commit: Commit) -> str:
    return hashlib.sha256(bytes.fromhex(commit.tree) + bytes.fromhex(commit.meta)).hexdigest()


def _date(time_s: int) -> str:
    from datetime import UTC, datetime

    try:
        return datetime.fromtimestamp(time_s, UTC).strftime("%Y-%m-%d %H:%M:%S +0000")
    except (ValueError, OverflowError, OSError):
        raise InvalidInput(f"Failed to read commit: Invalid timestamp: {time_s}") from None


def _print_raw(repo: Repository, kind: ObjectType, checksum: Checksum, *, swapped: bool = True) -> None:
    """Prints a metadata object as text, with its integers swapped, as OSTree does, unless they should not be."""
    from wherry.store.format import objects, variant
    from wherry.store.format.objects import ObjectType
    from wherry.store.format.vtext import byteswapped, to_text

    type_ = {
        ObjectType.COMMIT: objects.COMMIT_TYPE,
        ObjectType.DIRTREE: objects.DIRTREE_TYPE,
        ObjectType.DIRMETA: objects.DIRMETA_TYPE,
    }.get(kind, "a{sv}")
    value = variant.decode(type_, repo.metadata_bytes(kind, checksum), where=checksum)
    print(f"{kind.extension} {checksum}")
    print(to_text(type_, byteswapped(type_, value) if swapped else value))


def _commit_json(checksum: Checksum, commit: Commit, *, partial: bool) -> dict[str, Any]:
    from wherry.store.format.variant import from_plain
    from wherry.store.format.vtext import variant_text

    return {
        "commit": checksum,
        "parent": commit.parent,
        "content_checksum": _content_checksum(commit),
        "timestamp_s": commit.timestamp_s,
        "subject": commit.subject,
        "body": commit.body,
        "metadata": {key: variant_text(from_plain(value)) for key, value in commit.metadata.items()},
        **({"partial": True} if partial else {}),
    }


@click.command(epilog="\b\nExample:\n  wherry store log --repo=repo os/main")
@repo_option
@click.argument("rev")
@click.option("--raw", is_flag=True, help="Print the commits as GVariant text.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def log(repo_path: str | None, rev: str, raw: bool, as_json: bool) -> None:
    """Show a commit and its parents, the newest first."""
    from wherry.store.format.objects import ObjectType

    repo = open_repo(repo_path)
    current: Checksum | None = repo.resolve(rev)
    listed = []
    while current is not None:
        commit = repo.load_commit(current)
        if as_json:
            listed.append(_commit_json(current, commit, partial=repo.is_partial(current)))
        elif raw:
            _print_raw(repo, ObjectType.COMMIT, current)
        else:
            print(f"commit {current}")
            _print_commit(commit)
        current = commit.parent
        if current is not None and not repo.has(ObjectType.COMMIT, current):
            if not as_json:
                print("<< History beyond this commit not fetched >>")
            break
    if as_json:
        from wherry.cli.output import print_json

        print_json(listed)


@click.command(
    epilog="""\b
Examples:
  wherry store show --repo=repo os/main
  wherry store show --repo=repo --print-metadata-key=version os/main
  wherry store show --print-variant-type='(a(s(taya{sv}))a{sv})' repo/summary"""
)
@repo_option
@click.argument("name", metavar="OBJECT")
@click.option("--print-related", is_flag=True, help='Print the "related" commits.')
@click.option("--print-variant-type", metavar="TYPE", help="OBJECT is a file: print it as a GVariant of this type.")
@click.option("--list-metadata-keys", is_flag=True, help="List the keys of the commit's metadata.")
@click.option("--print-metadata-key", metavar="KEY", help="Print one value of the commit's metadata.")
@click.option("--print-hex", is_flag=True, help="Print a value that is bytes as hexadecimal digits.")
@click.option("--list-detached-metadata-keys", is_flag=True, help="List the keys of its detached metadata.")
@click.option("--print-detached-metadata-key", metavar="KEY", help="Print one value of its detached metadata.")
@click.option("--print-sizes", is_flag=True, help="Print what the commit's objects take (commit --generate-sizes).")
@click.option("--raw", is_flag=True, help="Print it as GVariant text.")
@click.option("-B", "--no-byteswap", is_flag=True, help="Do not swap the bytes of integers.")
@refused_option("--gpg-homedir", reason=NO_GPG, metavar="HOMEDIR")
@refused_option("--gpg-verify-remote", reason=NO_GPG, metavar="REMOTE")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def show(repo_path: str | None, name: str, as_json: bool, **options: Any) -> None:
    """Show one commit, or by its checksum another metadata object."""
    if options["print_variant_type"]:
        _print_variant(Path(name), options["print_variant_type"])
        return
    repo = open_repo(repo_path)
    if any(options[option] for option in _KEY_OPTIONS):
        _print_key(repo, repo.resolve(name), options)
    elif options["list_metadata_keys"] or options["list_detached_metadata_keys"]:
        metadata = _metadata(repo, repo.resolve(name), detached=options["list_detached_metadata_keys"])
        for key in sorted(metadata, key=str.encode):
            print(key)
    elif options["print_related"]:
        for related, checksum in repo.load_commit(repo.resolve(name)).related:
            print(f"{related} {checksum.hex()}")
    elif options["print_sizes"]:
        _print_sizes(repo, repo.resolve(name))
    elif as_json:
        from wherry.cli.output import print_json

        commit = repo.resolve(name)
        print_json(_commit_json(commit, repo.load_commit(commit), partial=repo.is_partial(commit)))
    else:
        _print_object(repo, name, options)


def _print_object(repo: Repository, name: str, options: dict[str, Any]) -> None:
    from wherry.core.digest import Checksum, is_checksum
    from wherry.store.format.objects import ObjectType

    kinds = (ObjectType.COMMIT, ObjectType.DIRMETA, ObjectType.DIRTREE)
    checksum, kind = Checksum(name), ObjectType.COMMIT
    if is_checksum(name):
        found = next((kind for kind in kinds if repo.has(kind, checksum)), None)
        if found is None:
            _print_file(repo, checksum)
            return
        kind = found
    else:
        checksum = repo.resolve(name)
    if options["no_byteswap"]:
        _print_raw(repo, kind, checksum, swapped=False)
    elif options["raw"]:
        _print_raw(repo, kind, checksum)
        return
    else:
        print(f"{kind.extension} {checksum}")
    if kind is ObjectType.COMMIT:
        _print_commit(repo.load_commit(checksum))


def _print_file(repo: Repository, checksum: Checksum) -> None:
    """Prints what is known of a file object."""
    from wherry.store.format.vtext import to_text

    header, content = repo.load_file(checksum)
    print(f"Object: {checksum}\nType: file")
    if content is None:
        print(f"File Type: symlink\nTarget: {header.symlink_target}")
    else:
        from wherry.store.disk.stored import content_size

        with content:
            size = content_size(repo, checksum, content)
        print(f"File Type: regular\nSize: {size}")
    print(f"Mode: 0{header.mode:04o}\nUid: {header.uid}\nGid: {header.gid}")
    xattrs = [(name + b"\0", value) for name, value in header.xattrs]
    print(f"Extended Attributes: {{ {to_text('a(ayay)', xattrs)} }}")


def _metadata(repo: Repository, commit: Checksum, *, detached: bool) -> dict[str, Any]:
    if not detached:
        return dict(repo.load_commit(commit).metadata)
    found = repo.read_detached(commit)
    if not found:
        raise NotFound(f"No detached metadata for commit {commit}")
    return found


def _print_key(repo: Repository, commit: Checksum, options: dict[str, Any]) -> None:
    from wherry.store.format.variant import from_plain
    from wherry.store.format.vtext import byteswapped, to_text

    detached = options["print_detached_metadata_key"] is not None
    key = options["print_detached_metadata_key"] if detached else options["print_metadata_key"]
    values = _metadata(repo, commit, detached=detached)
    if key not in values:
        raise NotFound(f"No such metadata key '{key}'", where=commit)
    found = from_plain(values[key])
    if options["print_hex"] and found.type == "ay":
        print(found.value.hex())
        return
    print(to_text(found.type, found.value if options["no_byteswap"] else byteswapped(found.type, found.value)))


def _print_variant(path: Path, type_: str) -> None:
    from wherry.core.durable import map_os_error
    from wherry.store.format import variant
    from wherry.store.format.vtext import byteswapped, to_text

    if not variant.is_type(type_):
        raise InvalidInput(f"not a GVariant type: {type_!r}")
    try:
        with open(path, "rb") as file:
            data = file.read(_MAX_VARIANT_BYTES + 1)
    except OSError as error:
        raise map_os_error(error, "cannot read a file", where=path) from error
    if len(data) > _MAX_VARIANT_BYTES:
        raise InvalidInput(f"longer than {_MAX_VARIANT_BYTES} bytes", where=path)
    print(to_text(type_, byteswapped(type_, variant.decode(type_, data, where=path))))


def _print_sizes(repo: Repository, commit: Checksum) -> None:
    from wherry.cli.sizes import glib_size
    from wherry.store.tree.sizes import SIZES, read_sizes

    loaded = repo.load_commit(commit)
    if SIZES not in loaded.metadata:
        raise NotFound(f"No metadata key {SIZES} in commit", where=commit, hint="commit with --generate-sizes")
    total = [0, 0, 0]
    needed = [0, 0, 0]
    for entry in read_sizes(loaded, where=commit):
        counts = (total,) if repo.has(entry.kind, entry.checksum) else (total, needed)
        for count in counts:
            count[0] += entry.archived_bytes
            count[1] += entry.unpacked_bytes
            count[2] += 1
    print(f"Compressed size (needed/total): {glib_size(needed[0])}/{glib_size(total[0])}")
    print(f"Unpacked size (needed/total): {glib_size(needed[1])}/{glib_size(total[1])}")
    print(f"Number of objects (needed/total): {needed[2]}/{total[2]}")
