"""``wherry pack``: a command of an image as one executable file, which runs where there is no Wherry."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from wherry.cli import completing
from wherry.cli.context import settings
from wherry.cli.image_repo import repo_option, require_images
from wherry.cli.output import note, print_json, print_table
from wherry.core.errors import UsageError
from wherry.core.units import format_size

if TYPE_CHECKING:
    from wherry.engine.pack.choosing import Choice, Wish
    from wherry.engine.pack.tree import Tree

_MANY = 20


class PackGroup(click.Group):
    """A group whose own work, packing, needs no word: ``wherry pack IMAGE ...`` is ``wherry pack make IMAGE ...``."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Puts ``make`` in front of what is no other word of the group's."""
        if args and args[0] not in self.commands and args[0] not in ctx.help_option_names:
            args = ["make", *args]
        return super().parse_args(ctx, args)


@click.group(
    cls=PackGroup,
    epilog="""\b
Examples:
  wherry pack debian:12 ls -o ls
  wherry pack ./rootfs python3 --add /usr/lib/python3 -o app -- -m http.server
  wherry pack files debian:12 ls
  wherry pack show ls
  wherry pack verify ls --key owner.pub""",
)
def pack() -> None:
    """Pack a command of an image as one executable file.

    wherry pack IMAGE|DIR COMMAND... -o FILE (short for `wherry pack make`). The file runs on machines without Wherry:
    it carries just the files that the command needs, and mounts itself.
    """


def _choosing(command: Callable[..., None]) -> Callable[..., None]:
    """Adds the options that say which files are packed."""
    options = [
        click.option("--add", multiple=True, metavar="PATH|GLOB", help="Also this, with all that is below it."),
        click.option("--exclude", multiple=True, metavar="PATH|GLOB", help="Not this, nor what is below it."),
        click.option("--all", "everything", is_flag=True, help="The whole tree."),
        click.option("--trace/--no-trace", default=None, help="Run it once to see what it opens (root, strace)."),
        click.option(
            "--trace-timeout",
            type=click.FloatRange(min=0.1),
            default=20.0,
            show_default=True,
            metavar="SECONDS",
            help="After which the traced run is killed.",
        ),
        click.option("--entry-env/--no-entry-env", default=True, help="The image's environment; on by default."),
        repo_option,
    ]
    for option in reversed(options):
        command = option(command)
    return command


@pack.command(
    epilog="""\b
Examples:
  wherry pack debian:12 ls -o ls
  wherry pack ./rootfs /usr/bin/jq -o jq --isolate namespaces --sign owner.key
  wherry pack app:1 myapp --add '/usr/share/myapp/*' -o myapp -- --port 8080"""
)
@click.argument("image", metavar="IMAGE|DIR", shell_complete=completing.images)
@click.argument("words", metavar="COMMAND...", nargs=-1, required=True)
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, metavar="FILE", help="The app.")
@click.option(
    "--isolate",
    type=click.Choice(["none", "chroot", "namespaces"]),
    default="none",
    show_default=True,
    help="From the machine.",
)
@click.option("-e", "--env", multiple=True, metavar="NAME=VALUE", help="Set in its environment.")
@click.option("--bind", multiple=True, metavar="PATH", help="Also seen of the machine, without isolation.")
@click.option("--tmpfs", "memory", multiple=True, metavar="DIR", help="A folder in memory, empty in each run.")
@click.option("--mkdir", "folders", multiple=True, metavar="DIR", help="An empty folder, for --wherry-volume.")
@click.option("-w", "--workdir", metavar="DIR", help="Where it starts with isolation; by default the image's.")
@click.option(
    "--format",
    "format_",
    type=click.Choice(["squashfs", "erofs"]),
    default="squashfs",
    show_default=True,
    help="Of the image.",
)
@click.option(
    "--compression", metavar="NAME", help="zstd (default), gzip, lz4, lzo, xz; of EROFS: lz4hc (default), lz4, none."
)
@click.option("--sign", "key", type=click.Path(path_type=Path), metavar="KEYFILE", help="Sign it.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@_choosing
def make(
    image: str,
    words: tuple[str, ...],
    output: Path,
    isolate: str,
    env: tuple[str, ...],
    bind: tuple[str, ...],
    memory: tuple[str, ...],
    folders: tuple[str, ...],
    workdir: str | None,
    format_: str,
    compression: str | None,
    key: Path | None,
    as_json: bool,
    **choosing: Any,
) -> None:
    """Pack a command: an executable file with a shell's header and squashfs of what the command needs.

    Options of the command go behind --. Needed is what the ELF files name (libraries, dynamic linker), what scripts
    name, and, as root with strace, what the command opens in a run of its own: the run is as root, in a chroot of the
    tree, without network; --no-trace for images that are not trusted with that.

    The app starts as root, or by FUSE in a user namespace. Where it runs, its first words may be --wherry-isolate=MODE,
    --wherry-volume=FROM:TO and others (see the reference). Two packs of the same tree are equal, byte for byte;
    SOURCE_DATE_EPOCH is the latest time that a file has in it.
    """
    from wherry.engine.pack import header as headers
    from wherry.engine.pack import imaging, packing, trailer
    from wherry.trust.keys import PrivateKey

    signer = PrivateKey.load(key) if key is not None else None
    made_as = headers.Format(format_)
    for path in folders:
        headers.check_path(path)
    if compression is not None and compression not in imaging.COMPRESSIONS[made_as]:
        known = ", ".join(imaging.COMPRESSIONS[made_as])
        raise UsageError(f"{format_} knows no compression {compression!r} here", hint=f"it knows {known}")
    with _source(image, choosing) as (tree, image_env, owners, image_folder):
        own = dict(image_env) | dict(_env_items(env))
        choice = _choose(tree, words, own, choosing)
        header = headers.Header(
            name=re.sub(r"[^A-Za-z0-9_.-]", "-", os.path.basename(choice.needed.command)),
            command=(choice.needed.command, *words[1:]),
            machine=choice.needed.machine,
            isolate=headers.Isolate(isolate),
            env=tuple(sorted(own.items())),
            binds=(*headers.BINDS, *(path for path in bind if path not in headers.BINDS)),
            memory=memory,
            workdir=workdir or image_folder,
        )
        packed = packing.pack(
            tree,
            choice.needed,
            header,
            output,
            imaging.Recipe(
                format=made_as,
                compression=compression or "",
                keep_owners=owners,
                clamp_s=_clamp(),
                folders=folders,
                progress=settings().progress(),
            ),
        )
    if signer is not None:
        trailer.sign(output, signer)
    size = output.stat().st_size
    if as_json:
        print_json(
            {
                "path": str(output),
                "size": size,
                "files": packed.files,
                "contentSize": packed.content_bytes,
                "traced": choice.traced is not None,
                "missing": list(choice.needed.missing),
                "signed": bool(signer),
                **packed.header.describe(),
            }
        )
        return
    click.echo(f"{output}: {format_size(size)}, {packed.files} files of {format_size(packed.content_bytes)}")


@pack.command(
    epilog="""\b
Examples:
  wherry pack files debian:12 ls
  wherry pack files ./rootfs python3 --json --add /usr/lib/python3"""
)
@click.argument("image", metavar="IMAGE|DIR", shell_complete=completing.images)
@click.argument("words", metavar="COMMAND...", nargs=-1, required=True)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@_choosing
def files(image: str, words: tuple[str, ...], as_json: bool, **choosing: Any) -> None:
    """List the files that would be packed, why each, and how large it is; nothing is written."""
    from wherry.engine.pack.imaging import size_of

    with _source(image, choosing) as (tree, image_env, _, _):
        choice = _choose(tree, words, dict(image_env), choosing)
        rows = [(path, why, size_of(tree, path)) for path, why in choice.needed.files.items()]
    total = sum(size for _, _, size in rows)
    if as_json:
        print_json(
            {
                "command": choice.needed.command,
                "machine": choice.needed.machine,
                "traced": choice.traced is not None,
                "missing": list(choice.needed.missing),
                "size": total,
                "files": [{"path": path, "why": why, "size": size} for path, why, size in rows],
            }
        )
        return
    print_table(["SIZE", "PATH", "WHY"], [[format_size(size), path, why] for path, why, size in rows], shrink=2)
    click.echo(f"{len(rows)} files, {format_size(total)}")


@pack.command(
    epilog="\b\nExamples:\n  wherry pack show app\n  wherry pack show app --files\n  wherry pack show app --json"
)
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--files", "list_files", is_flag=True, help="List the files in it (squashfs, by unsquashfs).")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def show(file: Path, list_files: bool, as_json: bool) -> None:
    """Show what a packed app says of itself; its signature is not checked (`wherry pack verify` does)."""
    import shlex

    from wherry.engine.pack import trailer

    app = trailer.read(file)
    signed = None if app.signature is None else app.signature.key
    found = trailer.files(file, app) if list_files else None
    if as_json:
        described = {**app.header.describe(), "fileSize": app.size_bytes, "signedBy": signed.base64 if signed else None}
        print_json({**described, "files": found} if found is not None else described)
        return
    if found is not None:
        for path in found:
            click.echo(path)
        return
    header = app.header
    rows = [
        ["command", shlex.join(header.command)],
        ["machine", header.machine or "any"],
        ["isolate", str(header.isolate)],
        ["environment", " ".join(f"{name}={shlex.quote(value)}" for name, value in header.env) or "-"],
        ["sees", " ".join(header.binds)],
        ["in memory", " ".join(header.memory) or "-"],
        ["image", f"{header.format}, {format_size(header.size)} at byte {header.offset}"],
        ["SHA-256", header.sha256],
        ["signed by", f"{signed.base64} (not checked)" if signed else "-"],
    ]
    for name, value in rows:
        click.echo(f"{name + ':':<13}{value}")


@pack.command(epilog="\b\nExamples:\n  wherry pack verify app --key owner.pub\n  wherry pack verify app")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--key", type=click.Path(path_type=Path), metavar="PUB", help="The public key's file.")
def verify(file: Path, key: Path | None) -> None:
    """Check that every byte of a packed app is what a key has signed.

    Without --key only damage is found: the image is compared with the digest that the file itself says.
    """
    from wherry.engine.pack import trailer
    from wherry.trust.keys import load_public

    if key is None:
        app = trailer.check(file)
        signed = f"signed by {app.signature.key.base64}, not checked" if app.signature else "not signed"
        click.echo(f"{file}: whole; {signed}")
        return
    public = load_public(key)
    trailer.verify(file, public)
    click.echo(f"{file}: signed by {public.base64}")


def _choose(tree: Tree, words: tuple[str, ...], env: dict[str, str], choosing: dict[str, Any]) -> Choice:
    from wherry.engine.pack.choosing import Wish, choose

    wish: Wish = Wish(
        words=words,
        env=tuple(sorted(env.items())),
        add=choosing["add"],
        exclude=choosing["exclude"],
        everything=choosing["everything"],
        trace=choosing["trace"],
        trace_timeout_s=choosing["trace_timeout"],
    )
    choice = choose(tree, wish)
    quiet = settings().quiet
    for missing in choice.needed.missing[:_MANY]:
        note(f"wherry: not in the tree: {missing}", quiet=quiet)
    if choice.not_traced:
        note(f"wherry: not traced: {choice.not_traced}; what it opens by itself needs --add", quiet=quiet)
    traced = choice.traced
    if traced is not None and traced.status is None:
        note("wherry: the traced run was ended after its time; what it had opened is packed", quiet=quiet)
    elif traced is not None and traced.status:
        said = traced.error.strip().replace("\n", " | ")
        note(f"wherry: the traced run ended with {traced.status}: {said or 'no message'}", quiet=quiet)
    return choice


@contextmanager
def _source(image: str, choosing: dict[str, Any]) -> Iterator[tuple[Tree, list[tuple[str, str]], bool, str]]:
    """Yields a tree, its environment, whether its owners are the real ones, and its working folder."""
    from wherry.engine.pack.tree import Tree

    folder = image.removeprefix("dir:")
    owners = os.geteuid() == 0
    if image.startswith(("dir:", "/", "./", "../")) or image in (".", ".."):
        yield Tree(Path(folder)), [], owners, "/"
        return
    images = require_images(choosing["repo_path"], image)
    record = images.get(image)
    env = _env_items(record.config.env) if choosing["entry_env"] else []
    at = record.config.working_dir or "/"
    with tempfile.TemporaryDirectory(prefix="wherry-pack-") as scratch:
        place = Path(scratch) / "root"
        if owners:
            from wherry.linux.mount import MS_NODEV, MS_NOSUID
            from wherry.store.mount.mounting import unmount
            from wherry.store.mount.trees import mount_commit

            place.mkdir()
            mount_commit(images.repo, record.commit, place, flags=MS_NOSUID | MS_NODEV)
            try:
                yield Tree(place), env, True, at
            finally:
                unmount(place)
        else:
            from wherry.store.tree.checkout import checkout

            checkout(images.repo, record.commit, place, user_mode=True)
            yield Tree(place), env, False, at


def _clamp() -> int | None:
    """Returns the latest time that a file may have (reproducible-builds.org, SOURCE_DATE_EPOCH)."""
    text = os.environ.get("SOURCE_DATE_EPOCH", "")
    if not text:
        return None
    if not text.isascii() or not text.isdigit():
        raise UsageError("SOURCE_DATE_EPOCH is seconds since 1970", where=text)
    return int(text)


def _env_items(items: tuple[str, ...]) -> list[tuple[str, str]]:
    found = []
    for item in items:
        name, equals, value = item.partition("=")
        if not equals or not name:
            raise UsageError("an environment variable is NAME=VALUE", where=item)
        found.append((name, value))
    return found
