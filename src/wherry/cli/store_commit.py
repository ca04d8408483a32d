"""``wherry store commit``."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from wherry.cli.context import settings
from wherry.cli.store import NO_GPG, NO_SELINUX, open_repo, parse_time, refused_option, repo_option
from wherry.cli.store_lists import read_skip_list, read_statoverride, read_text
from wherry.core.errors import NotFound, UsageError

if TYPE_CHECKING:
    from wherry.core.digest import Checksum
    from wherry.store.disk.transaction import Transaction
    from wherry.store.repository import Repository
    from wherry.store.tree.directory import Consumed
    from wherry.store.tree.modifier import Modifier
    from wherry.store.tree.mutable import TreeBuilder

_MAX_TIME_S = 2**63 - 1
_ID = click.IntRange(-1, 2**32 - 2)
_TEMPLATE = """
# Please enter the commit message for your changes. The first line will
# become the subject, and the remainder the body. Lines starting
# with '#' will be ignored, and an empty message aborts the commit."""


@click.command(
    epilog="""\b
Examples:
  wherry store commit --repo=repo -b os/main -s "first" rootfs/
  wherry store commit --repo=repo -b os/main --tree=ref=os/base --tree=dir=overlay/
  wherry store commit --repo=repo -b app --tree=prefix=opt/app --tree=tar=app.tar.gz
  wherry store commit --repo=repo -b app --canonical-permissions --timestamp=@0 app/

A statoverride file has lines of MODE PATH, MODE in decimal: "2048 /usr/bin/su" adds
bits, "=384 /etc/shadow" sets them. A skip list has lines of /PATH."""
)
@repo_option
@click.argument("path", required=False)
@click.option("--parent", metavar="COMMIT", help='The commit before it, or "none"; else what the branch names.')
@click.option("-s", "--subject", default="", metavar="SUBJECT", help="One line.")
@click.option("-m", "--body", default="", metavar="BODY", help="The rest.")
@click.option("-F", "--body-file", type=click.Path(path_type=Path), metavar="FILE", help="A file with the rest.")
@click.option("-e", "--editor", is_flag=True, help="Write subject and body in an editor ($VISUAL, $EDITOR).")
@click.option("-b", "--branch", metavar="BRANCH", help="The ref to move.")
@click.option("--orphan", is_flag=True, help="Move no ref.")
@click.option("--no-bindings", is_flag=True, help="Do not write into the commit which ref it is for.")
@click.option("--bind-ref", multiple=True, metavar="BRANCH", help="A further ref that the commit is for.")
@click.option("--base", metavar="REV", help="Begin with this commit's tree, unchanged.")
@click.option(
    "--tree",
    "trees",
    multiple=True,
    metavar="dir=PATH|tar=FILE|ref=REV|prefix=DIR",
    help="Lay a directory, an archive (tar, cpio; - for standard input) or a commit over what came before; after "
    "prefix=DIR below that directory.",
)
@click.option("--add-metadata-string", multiple=True, metavar="KEY=VALUE", help="Metadata of the commit.")
@click.option("--add-metadata", multiple=True, metavar="KEY=VALUE", help="The same in GVariant's text format.")
@click.option("--keep-metadata", multiple=True, metavar="KEY", help="Metadata taken over from the parent.")
@click.option("--add-detached-metadata-string", multiple=True, metavar="KEY=VALUE", help="Metadata beside the commit.")
@click.option("--owner-uid", type=_ID, metavar="UID", help="Owner of everything.")
@click.option("--owner-gid", type=_ID, metavar="GID", help="Group of everything.")
@click.option("--canonical-permissions", is_flag=True, help="Owner 0:0, of the modes only 0755, no attributes.")
@click.option("--bootable", is_flag=True, help="Note the kernel's version (usr/lib/modules/VERSION/vmlinuz).")
@click.option("--mode-ro-executables", is_flag=True, help="Executable files are written by nobody.")
@click.option("--no-xattrs", is_flag=True, help="Leave extended attributes out.")
@refused_option("--selinux-policy", reason=NO_SELINUX, metavar="PATH")
@refused_option("-P", "--selinux-policy-from-base", reason=NO_SELINUX, is_flag=True)
@refused_option("--selinux-labeling-epoch", reason=NO_SELINUX, metavar="EPOCH")
@click.option("--link-checkout-speedup", is_flag=True, help="Do not read files that are hard links to objects.")
@click.option("-I", "--devino-canonical", is_flag=True, help="And take those for unmodified, whatever else is asked.")
@click.option("--tar-autocreate-parents", is_flag=True, help="Make directories that an archive lacks.")
@click.option("--tar-pathname-filter", metavar="REGEX,REPLACEMENT", help="Change the paths in archives.")
@click.option("--skip-if-unchanged", is_flag=True, help="Do nothing when the tree is the parent's.")
@click.option("--statoverride", type=click.Path(path_type=Path), metavar="FILE", help="Modes by path.")
@click.option("--skip-list", type=click.Path(path_type=Path), metavar="FILE", help="Paths to leave out.")
@click.option("--consume", is_flag=True, help="Remove the directories once the commit is on the disk.")
@click.option("--table-output", is_flag=True, help="Print counts too.")
@refused_option("--gpg-sign", reason=NO_GPG, metavar="KEY-ID", multiple=True)
@refused_option("--gpg-homedir", reason=NO_GPG, metavar="HOMEDIR")
@click.option(
    "--sign", "sign_keys", multiple=True, metavar="KEY", help="Sign with this secret key (seen by all in ps)."
)
@click.option(
    "--sign-from-file", "sign_files", multiple=True, type=click.Path(path_type=Path), metavar="FILE",
    help="Sign with the secret keys in a file.",
)  # fmt: skip
@click.option("--sign-type", default="ed25519", metavar="NAME", help="How to sign (ed25519).")
@click.option("--generate-sizes", is_flag=True, help="Note the objects' sizes in the commit (archive only).")
@click.option("--generate-composefs-metadata", is_flag=True, help="Note the digest of the composefs image.")
@click.option("--disable-fsync", is_flag=True, hidden=True)
@click.option("--fsync", type=click.BOOL, default=True, metavar="BOOL", help="Wait until all is on the disk (true).")
@click.option("--timestamp", metavar="TIME", help="@SECONDS or a date; else $SOURCE_DATE_EPOCH, else now.")
@click.option("--json", "as_json", is_flag=True, help="Print the commit and the counts as JSON.")
def commit(repo_path: str | None, path: str | None, **options: Any) -> None:
    """Commit a directory (this folder when none is named), or trees laid over each other.

    Prints the checksum of the commit.
    """
    if not options["branch"] and not options["orphan"]:
        raise UsageError("A branch must be specified with --branch, or use --orphan")
    repo = open_repo(repo_path)
    if options["disable_fsync"] or not options["fsync"]:
        repo.fsync = False
    _Commit(repo, options).run(path)


class _Commit:
    """One call of ``wherry store commit``."""

    def __init__(self, repo: Repository, options: dict[str, Any]) -> None:
        self._repo = repo
        self._options = options
        self._consumed: list[Consumed] = []
        self._skips = read_skip_list(options["skip_list"])
        self._overrides = read_statoverride(options["statoverride"])
        self._hits = 0

    def run(self, path: str | None) -> None:
        from wherry.core.digest import Ref
        from wherry.core.trace import reach
        from wherry.store.disk.counting import CountingWriter
        from wherry.store.tree.commit import commit_tree
        from wherry.store.tree.mutable import write_node

        options, repo = self._options, self._repo
        time_s = self._time()
        parent = self._parent()
        metadata = self._metadata(parent)
        detached = _strings(options["add_detached_metadata_string"])
        modifier = self._modifier()
        subject, body = self._message()
        with repo.transaction() as transaction:
            writer = CountingWriter(transaction) if options["table_output"] or options["as_json"] else transaction
            builder = self._builder(path, writer, transaction, modifier)
            self._check_unmatched()
            tree, meta = write_node(writer, builder.root)
            checksum = self._unchanged(parent, tree, meta)
            if checksum is None:
                self._add_computed(metadata, builder, tree, meta)
                checksum = commit_tree(
                    repo,
                    tree,
                    meta,
                    timestamp_s=time_s,
                    subject=subject,
                    body=body,
                    parent=parent,
                    metadata=metadata,
                    ref=Ref(options["branch"]) if options["branch"] and not options["orphan"] else None,
                    bind_ref=False,
                )
                if detached:
                    repo.write_detached(checksum, detached)
                self._sign(checksum)
        for consumed in self._consumed:
            reach("store.commit.consuming")
            consumed.remove()
        self._print(checksum, writer)

    # --- what it is made of

    def _builder(self, path: str | None, writer: Any, transaction: Transaction, modifier: Modifier) -> TreeBuilder:
        from wherry.store.tree.commit import read_commit
        from wherry.store.tree.directory import Consumed, read_directory
        from wherry.store.tree.mutable import TreeBuilder
        from wherry.store.tree.shortcuts import shortcuts

        options, repo = self._options, self._repo
        trees = [_tree_argument(text) for text in options["trees"]]
        if path is not None and trees:
            raise UsageError("give a directory or --tree, not both")
        if not trees:
            trees = [("dir", path if path is not None else ".")]
        builder = TreeBuilder(repo, strict=True, writer=writer)
        builder.root.meta = None
        if options["base"]:
            builder.overlay_commit(repo.resolve(options["base"]))
        spared = shortcuts(
            repo,
            transaction,
            link_speedup=options["link_checkout_speedup"],
            trust_links=options["devino_canonical"],
            adopt=options["consume"],
        )
        prefix = ""
        for kind, value in trees:
            if kind == "prefix":
                prefix = value
                builder.mkdir(prefix, parents=True)
            elif kind == "ref":
                builder.overlay_node(read_commit(repo, repo.resolve(value), modifier), prefix)
            elif kind == "tar":
                self._archive(builder, prefix, value, modifier, writer)
            else:
                consumed = Consumed(Path(value)) if options["consume"] else None
                if consumed is not None:
                    self._consumed.append(consumed)
                node = read_directory(
                    writer,
                    Path(value),
                    modifier,
                    shortcuts=spared,
                    consumed=consumed,
                    progress=settings().progress(),
                )
                builder.overlay_node(node, prefix)
        self._hits = spared.hits
        return builder

    def _archive(self, builder: TreeBuilder, prefix: str, name: str, modifier: Modifier, writer: Any) -> None:
        from wherry.core.durable import map_os_error
        from wherry.store.tree.archive import import_archive
        from wherry.store.tree.mutable import TreeBuilder

        target = builder
        if prefix:
            target = TreeBuilder(self._repo, strict=True, writer=writer)
            target.root.meta = None
        try:
            with sys.stdin.buffer if name == "-" else open(name, "rb") as stream:
                import_archive(
                    self._repo,
                    target,
                    stream,
                    modifier=modifier,
                    where="standard input" if name == "-" else name,
                    autocreate_parents=self._options["tar_autocreate_parents"],
                    rename=_pathname_filter(self._options["tar_pathname_filter"]),
                    progress=settings().progress(),
                )
        except OSError as error:
            raise map_os_error(error, "cannot read the archive", where=name) from error
        if prefix:
            builder.overlay_node(target.root, prefix)

    def _modifier(self) -> Modifier:
        from wherry.store.tree.modifier import Modifier, for_repo

        options = self._options
        owners = {}
        for word in ("uid", "gid"):
            number = options[f"owner_{word}"]
            owners[word] = None if number is None or number < 0 else number
            if options["canonical_permissions"] and owners[word]:
                raise UsageError(f"Cannot specify both --canonical-permissions and non-zero --owner-{word}")
        modifier = Modifier(
            canonical_permissions=options["canonical_permissions"],
            owner_uid=owners["uid"],
            owner_gid=owners["gid"],
            ro_executables=options["mode_ro_executables"],
            no_xattrs=options["no_xattrs"],
            skip=self._skips.__contains__ if self._skips is not None else None,
            statoverride=self._overrides,
        )
        return for_repo(modifier, self._repo)

    def _check_unmatched(self) -> None:
        """Refuses entries of the two lists that met nothing: a path misspelled is a file without its mode."""
        for found, what in ((self._overrides, "statoverride"), (self._skips, "skip-list")):
            missed = found.missed() if found is not None else []
            for path in missed:
                print(f"Unmatched {what} path: {path}", file=sys.stderr)
            if missed:
                raise NotFound(f"Unmatched {what} paths")

    # --- what it says

    def _parent(self) -> Checksum | None:
        from wherry.core.digest import Ref
        from wherry.store.refs import parse_ref

        named, branch = self._options["parent"], self._options["branch"]
        if branch:
            parse_ref(branch)
        if named == "none" or (not named and self._options["orphan"]):
            return None
        if named:
            return self._repo.resolve(named)
        return self._repo.refs().get(Ref(branch))

    def _time(self) -> int:
        if self._options["timestamp"]:
            return parse_time(self._options["timestamp"], "--timestamp")
        epoch = os.environ.get("SOURCE_DATE_EPOCH")
        if epoch is None:
            return int(time.time())
        try:
            found = int(epoch)
        except ValueError:
            raise UsageError("Failed to convert SOURCE_DATE_EPOCH: not a number of seconds", where=epoch) from None
        if not 0 <= found <= _MAX_TIME_S:
            raise UsageError("Parsing SOURCE_DATE_EPOCH: Numerical result out of range", where=epoch)
        return found

    def _message(self) -> tuple[str, str]:
        options = self._options
        if options["editor"]:
            return _edit(options)
        if options["body_file"]:
            return options["subject"], read_text(options["body_file"])
        return options["subject"], options["body"]

    def _metadata(self, parent: Checksum | None) -> dict[str, Any]:
        from wherry.store.format.bindings import COLLECTION_BINDING, REF_BINDING
        from wherry.store.format.variant import Variant
        from wherry.store.format.vparse import parse_text

        options = self._options
        metadata: dict[str, Any] = dict(_strings(options["add_metadata_string"]))
        for item in options["add_metadata"]:
            key, value = _pair(item)
            metadata[key] = parse_text(value, where=f"Parsing {item}")
        if options["keep_metadata"]:
            if parent is None:
                raise UsageError("Either --branch or --parent must be specified when using --keep-metadata")
            old = self._repo.load_commit(parent).metadata
            for key in options["keep_metadata"]:
                if key not in old:
                    raise NotFound(f"Missing metadata key '{key}' from commit '{parent}'")
                metadata[key] = old[key]
        if not options["no_bindings"]:
            bound = [*options["bind_ref"], *([options["branch"]] if options["branch"] else [])]
            metadata[REF_BINDING] = Variant("as", sorted(bound, key=str.encode))
            if self._repo.collection_id:
                metadata.setdefault(COLLECTION_BINDING, self._repo.collection_id)
        return metadata

    def _add_computed(self, metadata: dict[str, Any], builder: TreeBuilder, tree: Checksum, meta: Checksum) -> None:
        if self._options["bootable"]:
            from wherry.store.tree.bootable import bootable_metadata

            metadata.update(bootable_metadata(builder))
        if self._options["generate_composefs_metadata"]:
            from wherry.store.format.variant import Variant
            from wherry.store.mount.composefs import DIGEST_KEY, digest_of_tree

            metadata[DIGEST_KEY] = Variant("ay", digest_of_tree(self._repo, tree, meta))

        if self._options["generate_sizes"]:
            from wherry.store.tree.sizes import SIZES, sizes_metadata

            sizes = sizes_metadata(self._repo, tree, meta)
            if sizes is not None:
                metadata[SIZES] = sizes

    def _unchanged(self, parent: Checksum | None, tree: Checksum, meta: Checksum) -> Checksum | None:
        if not self._options["skip_if_unchanged"] or parent is None:
            return None
        before = self._repo.load_commit(parent)
        return parent if (before.tree, before.meta) == (tree, meta) else None

    def _sign(self, checksum: Checksum) -> None:
        keys = list(self._options["sign_keys"])
        if not keys and not self._options["sign_files"]:
            return
        from wherry.cli.store_sign import signer
        from wherry.store.sign import read_secrets, sign_commit

        for path in self._options["sign_files"]:
            keys += read_secrets(path)
        engine = signer(self._options["sign_type"])
        for key in keys:
            sign_commit(self._repo, checksum, engine, key)

    def _print(self, checksum: Checksum, writer: Any) -> None:
        if self._options["as_json"] or self._options["table_output"]:
            counts = {**writer.counts(), "Content Cache Hits": self._hits}
            if self._options["as_json"]:
                from wherry.cli.output import print_json

                print_json({"commit": checksum, **{key.lower().replace(" ", "_"): n for key, n in counts.items()}})
                return
            print(f"Commit: {checksum}")
            for key in _TABLE:
                print(f"{key}: {counts[key]}")
        else:
            print(checksum)


_TABLE = ("Metadata Total", "Metadata Written", "Content Total", "Content Written", "Content Cache Hits",
          "Content Bytes Written")  # fmt: skip


def _tree_argument(text: str) -> tuple[str, str]:
    kind, equals, value = text.partition("=")
    if not equals:
        raise UsageError(f"Missing type in tree specification '{text}'", hint="write dir=PATH, tar=FILE or ref=REV")
    if kind not in ("dir", "tar", "ref", "prefix"):
        raise UsageError(f"Invalid tree type specification '{kind}'", hint="there are dir, tar, ref and prefix")
    return kind, value


def _pair(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals:
        raise UsageError(f"Missing '=' in KEY=VALUE metadata '{text}'")
    if not key:
        raise UsageError(f"Empty metadata key in '{text}'")
    return key, value


def _strings(items: tuple[str, ...]) -> dict[str, str]:
    return dict(_pair(item) for item in items)


def _pathname_filter(text: str | None) -> Any:
    """Returns what changes the paths of an archive, as ``--tar-pathname-filter`` says."""
    if text is None:
        return None
    import re

    pattern, comma, replacement = text.partition(",")
    if not comma:
        raise UsageError("Missing ',' in --tar-pathname-filter", hint="write REGEX,REPLACEMENT")
    try:
        compiled = re.compile(pattern)
        compiled.sub(replacement, "")
    except (re.error, IndexError) as error:
        raise UsageError(f"--tar-pathname-filter: {error}") from None
    return lambda path: compiled.sub(replacement, path)


def _edit(options: dict[str, Any]) -> tuple[str, str]:
    """Has the person write subject and body."""
    text = _TEMPLATE
    if options["branch"]:
        text += f"\n#\n# Branch: {options['branch']}"
    for part in (options["subject"], options["body"]):
        text += f"\n{part}" if part else ""
    edited = click.edit(text + "\n", require_save=False) or ""
    lines = [line.rstrip() for line in edited.splitlines() if not line.startswith("#")]
    subject, _, body = "\n".join(lines).strip().partition("\n")
    if not subject:
        raise UsageError("Aborting commit due to empty commit subject.")
    return subject, body.strip()
