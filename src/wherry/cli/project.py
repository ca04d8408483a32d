"""The git words: the project of a device, from ``init`` to ``push``."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from wherry.cli.context import settings
from wherry.cli.output import note, print_json
from wherry.core.digest import short
from wherry.core.errors import UsageError

if TYPE_CHECKING:
    from wherry.revision.compare import Difference
    from wherry.revision.project import Project, Status
    from wherry.store.format.objects import Commit

EXIT_NOTHING = 1
"""Nothing to commit, as git says it."""
_EPOCH_VARIABLE = "SOURCE_DATE_EPOCH"
_LETTERS = {"added": "new file", "removed": "deleted", "changed": "modified", "mode": "modified", "type": "typechange"}

_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
_ca = click.option("--ca", type=click.Path(path_type=Path, exists=True), help="The authority to trust, PEM.")


def _project() -> Project:
    from wherry.revision.project import Project

    return Project.find(Path.cwd(), settings().root / "store")


# --- making


@click.command(epilog="\b\nExamples:\n  wherry init kiosk\n  cd kiosk && wherry commit -m first")
@click.argument("directory", type=click.Path(path_type=Path), default=".")
@click.option("--name", help="The project's name; by default the folder's.")
def init(directory: Path, name: str | None) -> None:
    """Make a project folder for a device.

    It gets wherry.yaml, compose.yaml, config/ and .wherry/ with an owner's key; files that are there stay as they are.
    The public key is printed: devices that trust it take this project's revisions.
    """
    from wherry.revision.project import Project

    root = directory.absolute()
    project = Project.init(root, name or Path(os.path.normpath(root)).name, settings().root / "store")
    workspace, quiet = project.workspace, settings().quiet
    note(f"made project {workspace.head_ref().partition('/')[2]} in {root}", quiet=quiet)
    note(f"its key is {workspace.key_path}: keep it safe; devices trust this public key:", quiet=quiet)
    click.echo(workspace.key().public.base64)


@click.command(epilog="\b\nExamples:\n  wherry clone https://hub.example/kiosk --trust owner.key.pub")
@click.argument("address", metavar="URL/NAME")
@click.argument("directory", type=click.Path(path_type=Path), required=False)
@click.option("--trust", type=click.Path(path_type=Path), multiple=True, help="A public key that must have signed.")
@_ca
def clone(address: str, directory: Path | None, trust: tuple[Path, ...], ca: Path | None) -> None:
    """Make a project folder from a hub's newest revision, with its history and its images.

    Log in first: wherry fleet login URL.
    """
    from wherry.cli.hubs import hub_client
    from wherry.core.units import format_size
    from wherry.revision.clone import clone as make
    from wherry.revision.clone import split_address
    from wherry.trust.keys import load_public

    url, name = split_address(address)
    keys = [load_public(path) for path in trust]
    root = (directory or Path(name)).absolute()
    made = make(hub_client(url, ca_file=ca), name, root, trust=keys, progress=settings().progress())
    signers = ", ".join(key.key_id[:12] for key in made.signed_by) or "nobody"
    verdict = "verified" if made.verified else "not verified: no --trust was given"
    note(f"received {format_size(made.bytes_received)}; signed by key {signers} ({verdict})", quiet=settings().quiet)
    click.echo(f"{name} {short(made.commit)} in {root}")


# --- looking


@click.command(epilog="\b\nExamples:\n  wherry status\n  wherry status --json")
@_json
def status(as_json: bool) -> None:
    """Show what has changed since the last commit.

    A commit takes what is staged; with nothing staged, every change of what belongs to the project: wherry.yaml,
    compose.yaml, config/, layers/ and what was added.
    """
    project = _project()
    found = project.status()
    if as_json:
        print_json(_status_json(found))
        return
    if found.head is None:
        click.echo(f"Project {found.name}, no revision yet")
    else:
        subject = project.repo.load_commit(project.resolve("HEAD")).subject
        click.echo(f"Project {found.name}, revision {short(found.head)} {subject}")
    if found.staged:
        _print_changes("Changes to be committed:", "", found.staged, "green")
    if found.modified:
        how = '(use "wherry add FILE..." or "wherry commit -a" to have them committed)' if found.staged else ""
        _print_changes("Changes not staged for commit:" if found.staged else "Changes:", how, found.modified, "red")
    if found.moved_images:
        click.echo("Images that have changed under their name:")
        for moved in found.moved_images:
            old, new = f"sha256:{short(moved.old.digest)}", f"sha256:{short(moved.new.digest)}"
            click.echo(f"\t{moved.app}: {moved.new.reference} {old} -> {new}")
        click.echo()
    if found.untracked:
        click.echo('Untracked files:\n  (use "wherry add FILE..." to have them in the next revision)')
        for path in found.untracked:
            click.echo("\t" + _coloured(path, "red"))
        click.echo()
    if found.problem:
        click.echo(f"The next commit would fail: {found.problem}")
    elif found.clean:
        click.echo("nothing to commit")


def _print_changes(title: str, how: str, changes: Sequence[tuple[str, str]], colour: str) -> None:
    click.echo(title + (f"\n  {how}" if how else ""))
    for path, kind in changes:
        click.echo("\t" + _coloured(f"{_LETTERS[kind] + ':':<12}{path}", colour))
    click.echo()


def _status_json(found: Status) -> dict[str, Any]:
    from wherry.spec.codec import encode

    return {
        "name": found.name,
        "head": found.head,
        "clean": found.clean,
        "staged": [{"path": path, "kind": kind} for path, kind in found.staged],
        "modified": [{"path": path, "kind": kind} for path, kind in found.modified],
        "moved_images": encode(found.moved_images),
        "untracked": list(found.untracked),
        "problem": found.problem,
    }


@click.command(epilog="\b\nExamples:\n  wherry diff\n  wherry diff --staged\n  wherry diff HEAD~2 HEAD")
@click.argument("revisions", metavar="[REV [REV]]", nargs=-1)
@click.option("--staged", "--cached", "staged", is_flag=True, help="What is staged, against REV or HEAD.")
@_json
def diff(revisions: tuple[str, ...], staged: bool, as_json: bool) -> None:
    """Show changes in apps and files.

    Without REV: what is in the folder and not yet staged. With one: the folder against it. With two: one against
    the other.
    """
    from wherry.revision.compare import compare

    if len(revisions) > 2 or (staged and len(revisions) > 1):
        raise UsageError("too many revisions", hint="give one or two")
    project = _project()
    if staged:
        old = project.commit_state(project.resolve(revisions[0]) if revisions else project.workspace.head())
        new = project.index_state()
    elif len(revisions) == 2:
        old, new = (project.commit_state(project.resolve(rev)) for rev in revisions)
    else:
        old = project.commit_state(project.resolve(revisions[0])) if revisions else project.index_state()
        new = project.folder_state()
    found = compare(old, new)
    if as_json:
        print_json(found)
        return
    _print_difference(found)


@click.command(epilog="\b\nExamples:\n  wherry show\n  wherry show HEAD~1 --json")
@click.argument("revision", metavar="[REV]", default="HEAD")
@_json
def show(revision: str, as_json: bool) -> None:
    """Show one revision: who signed it, what it runs, and what it changed."""
    from wherry.revision.compare import compare, describe_app
    from wherry.spec.codec import encode

    project = _project()
    commit = project.resolve(revision)
    found = project.repo.load_commit(commit)
    state = project.commit_state(commit)
    parent = found.parent if found.parent is not None and project.has(found.parent) else None
    difference = compare(project.commit_state(parent), state)
    if as_json:
        entry = _log_json(project, commit, found)
        print_json({**entry, "revision": encode(state.revision), "changes": encode(difference)})
        return
    _print_commit(project, commit, found)
    click.echo()
    for name, app in state.revision.apps.items() if state.revision else ():
        click.echo(f"app {name}")
        for phrase in describe_app(app):
            click.echo(_safe(f"  {phrase}"))
    if parent is not None:
        click.echo(f"\nsince {short(parent)}:")
        _print_difference(difference)


@click.command(epilog="\b\nExamples:\n  wherry log --oneline -n 5\n  wherry log --json")
@click.argument("revision", metavar="[REV]", default="HEAD")
@click.option("-n", "--max-count", "count", type=click.IntRange(min=0), help="How many at most.")
@click.option("--oneline", is_flag=True, help="One line for each.")
@_json
def log(revision: str, count: int | None, oneline: bool, as_json: bool) -> None:
    """Show the revisions, the newest first."""
    from itertools import islice

    project = _project()
    history = islice(project.history(project.resolve(revision)), count)
    if as_json:
        print_json([_log_json(project, commit, found) for commit, found in history])
        return
    for index, (commit, found) in enumerate(history):
        if oneline:
            click.echo(f"{_coloured(short(commit), 'yellow')}{_names(project, commit)} {_safe(found.subject)}")
            continue
        if index:
            click.echo()
        _print_commit(project, commit, found)


def _print_commit(project: Project, commit: str, found: Commit) -> None:
    from wherry.core.digest import Checksum
    from wherry.revision.sign import signers

    click.echo(_coloured(f"commit {commit}", "yellow") + _names(project, commit))
    click.echo(f"Date:   {_date(found.timestamp_s)}")
    keys = signers(project.repo, Checksum(commit))
    click.echo(f"Key:    {', '.join(key.key_id[:12] for key in keys) or '(not signed)'}\n")
    for line in (found.subject, *(["", *found.body.splitlines()] if found.body else [])):
        click.echo(f"    {_safe(line)}".rstrip())


def _log_json(project: Project, commit: str, found: Commit) -> dict[str, Any]:
    from wherry.core.digest import Checksum
    from wherry.revision.sign import signers

    return {
        "commit": commit,
        "parent": found.parent,
        "time_s": found.timestamp_s,
        "subject": found.subject,
        "body": found.body,
        "signed_by": [key.key_id for key in signers(project.repo, Checksum(commit))],
        "names": project.names(commit),
    }


def _names(project: Project, commit: str) -> str:
    names = project.names(commit)
    return f" ({', '.join(names)})" if names else ""


def _date(timestamp_s: int) -> str:
    import time

    try:
        return time.strftime("%a %b %d %H:%M:%S %Y %z", time.localtime(timestamp_s))
    except (OverflowError, ValueError, OSError):
        return f"{timestamp_s} s after 1970"


def _print_difference(found: Difference) -> None:
    if found.problem:
        note(f"the apps cannot be compared: {found.problem}")
    for phrase in found.project:
        click.echo(f"project: {phrase}")
    for app in found.apps:
        if app.kind == "changed":
            for phrase in app.changes:
                click.echo(_safe(f"app {app.app}: {phrase}"))
        else:
            click.echo(_safe(f"app {app.app}: {app.kind}; {'; '.join(app.changes)}"))
    for file in found.files:
        lines = "" if file.lines_added is None else f" (+{file.lines_added} -{file.lines_removed})"
        what = {"mode": "executable bit changed", "type": "file and link changed places"}.get(file.kind, file.kind)
        click.echo(_safe(f"{file.path}: {what}{lines}"))
    for file in found.files:
        if file.text:
            click.echo()
        for line in map(_safe, file.text.split("\n") if file.text else ()):
            colour = {"+": "green", "-": "red", "@": "cyan"}.get(line[:1], "")
            click.echo(_coloured(line, colour) if colour and not line.startswith(("+++", "---")) else line)


def _safe(text: str) -> str:
    """Returns text that others wrote without what a terminal would take for an order."""
    return "".join(char if char.isprintable() or char == "\t" else repr(char)[1:-1] for char in text)


def _coloured(text: str, colour: str) -> str:
    return click.style(text, fg=colour)  # click takes the colour away where there is no terminal


# --- recording


@click.command(epilog="\b\nExamples:\n  wherry add README.md scripts/\n  wherry add -A")
@click.argument("paths", metavar="[PATH]...", nargs=-1)
@click.option("-A", "--all", "everything", is_flag=True, help="Every file of the project, and every removal.")
def add(paths: tuple[str, ...], everything: bool) -> None:
    """Have files, and removals of files, go into the next commit, as they are now."""
    from wherry.revision import record

    project = _project()
    if everything == bool(paths):
        raise UsageError("say what to add", hint="give paths, or -A for everything")
    record.add(project, [""] if everything else [_inside(project, path) for path in paths])


def _inside(project: Project, path: str) -> str:
    """Returns a path relative to the project's folder; "" for the folder itself."""
    full = os.path.normpath(os.path.join(os.getcwd(), path))
    real = os.path.join(os.path.realpath(os.path.dirname(full)), os.path.basename(full))
    relative = os.path.relpath(real, os.path.realpath(project.root))
    if relative == ".":
        return ""
    if relative.startswith("../") or relative == "..":
        raise UsageError("not in the project's folder", hint=f"{path} is outside of {project.root}")
    return relative


@click.command(
    epilog='\b\nExamples:\n  wherry commit -m "web 1.1"\n  wherry commit -a -m "all changes" --key ~/owner.key'
)
@click.option("-m", "--message", "messages", multiple=True, help="The subject; again for each paragraph.")
@click.option("-a", "--all", "take_all", is_flag=True, help="Take all changes of what belongs to the project.")
@click.option("--key", type=click.Path(path_type=Path), help="The key to sign with; by default .wherry/key.")
@_json
def commit(messages: tuple[str, ...], take_all: bool, key: Path | None, as_json: bool) -> int:
    """Record a signed revision of the whole device.

    Each image is looked up on this machine and pinned by its digest. The same files, images, message and parent at
    the same time ($SOURCE_DATE_EPOCH, else now) give the same checksum. Ends with 1 when nothing has changed.
    """
    from wherry.revision import record
    from wherry.trust.keys import PrivateKey

    if not messages:
        raise UsageError("no message given", hint="say what the revision is: wherry commit -m MESSAGE")
    project = _project()
    signer = PrivateKey.load(key) if key is not None else None
    made = record.commit(
        project, "\n\n".join(messages), take_all=take_all, key=signer, timestamp_s=_source_date_epoch()
    )
    if made is None:
        if as_json:
            print_json({"commit": None})
        else:
            click.echo("nothing to commit")
        return EXIT_NOTHING
    if made.clock_is_wrong:
        note(f"the clock stands wrong; the revision is dated {_date(made.time_s)}")
    if as_json:
        print_json(_log_json(project, made.commit, project.repo.load_commit(made.commit)))
        return 0
    first = "" if made.parent else " (first revision)"
    apps = ", ".join(made.revision.apps) or "none"
    click.echo(f"[{made.revision.name} {short(made.commit)}]{first} {project.repo.load_commit(made.commit).subject}")
    click.echo(f" apps: {apps}; signed by key {made.key.key_id[:12]}")
    return 0


def _source_date_epoch() -> int | None:
    text = os.environ.get(_EPOCH_VARIABLE, "")
    if not text:
        return None
    if not text.isascii() or not text.isdigit() or len(text) > 12:
        raise UsageError(f"{_EPOCH_VARIABLE} is not seconds since 1970: {text[:40]!r}")
    return int(text)


# --- the hub


@click.group(
    invoke_without_command=True,
    epilog="\b\nExamples:\n  wherry remote\n  wherry remote add origin https://hub.example",
)
@click.pass_context
def remote(ctx: click.Context) -> None:
    """Name the hubs that revisions are pushed to."""
    if ctx.invoked_subcommand is None:
        ctx.invoke(remote_list, as_json=False)


@remote.command("list")
@_json
def remote_list(as_json: bool) -> None:
    """List the remotes."""
    remotes = _project().workspace.remotes()
    if as_json:
        print_json([{"name": name, "url": url} for name, url in sorted(remotes.items())])
        return
    for name, url in sorted(remotes.items()):
        click.echo(f"{name}\t{url}")


@remote.command("add")
@click.argument("name")
@click.argument("url")
def remote_add(name: str, url: str) -> None:
    """Add a hub under a name; push goes to "origin" by itself."""
    workspace = _project().workspace
    with workspace.lock():
        workspace.set_remote(name, url, new=True)


@remote.command("set-url")
@click.argument("name")
@click.argument("url")
def remote_set_url(name: str, url: str) -> None:
    """Change the address of a remote."""
    workspace = _project().workspace
    with workspace.lock():
        workspace.set_remote(name, url)


@remote.command("remove")
@click.argument("name")
def remote_remove(name: str) -> None:
    """Forget a remote."""
    workspace = _project().workspace
    with workspace.lock():
        workspace.set_remote(name, None)


@click.command(epilog="\b\nExamples:\n  wherry remote add origin https://hub.example\n  wherry push")
@click.argument("name", metavar="[REMOTE]", required=False)
@_ca
@_json
def push(name: str | None, ca: Path | None, as_json: bool) -> None:
    """Send the newest revision, with all before it that the hub lacks, to a hub.

    Only objects that the hub does not have cross the wire; a push that was cut off goes on where it stopped. Log in
    first: wherry fleet login URL, or set WHERRY_TOKEN.
    """
    from wherry.cli.hubs import hub_client
    from wherry.core.digest import Ref
    from wherry.core.units import format_size
    from wherry.revision.push import push as send

    project = _project()
    name, url = project.workspace.remote(name)
    head = project.resolve("HEAD")
    ref = project.workspace.head_ref()
    done = send(project.repo, hub_client(url, ca_file=ca), ref, head, progress=settings().progress())
    with project.workspace.lock():
        project.repo.set_ref(Ref(f"{name}:{ref}"), head)
    if as_json:
        print_json(done)
        return
    if not done.revisions:
        click.echo(f"{short(head)} is on {name} already")
        return
    old = short(done.old) if done.old else "(new)"
    click.echo(f"{name} {url}\n  {old} -> {short(head)} {ref}")
    click.echo(f"  sent {done.objects_sent} objects, {format_size(done.bytes_sent)}")
