"""``wherry host new`` and ``configure``: workspaces begun and changed."""

from __future__ import annotations

import os
import secrets
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from wherry.cli.context import settings
from wherry.cli.host_context import find_workspace, load, workspace_argument
from wherry.cli.output import note
from wherry.core.errors import InvalidInput, NotFound, UsageError

if TYPE_CHECKING:
    from wherry.build.workspace import Workspace

_PASSWORD_LETTERS = "abcdefghjkmnpqrstuvwxyz23456789"  # noqa: S105 none that are taken for each other
_PASSWORD_LENGTH = 12
_BUILDERS = click.Choice(["debian", "source", "buildroot"])
MAX_KEY_BYTES = 64 * 1024


@click.command()
@click.option("--target", multiple=True, metavar="LAYERS", help="A board and what runs on it, as virt/qemu,host/base.")
@click.option("--builder", type=_BUILDERS, help="How it is built.  [default: what the layers say, else debian]")
@click.option("--arch", metavar="ARCH", help="Debian's name of the architecture.  [default: the board's]")
@click.option("--layers-path", multiple=True, metavar="DIR[:DIR...]", help="Where more layers are.")
@click.option("--user", default="core", show_default=True, metavar="NAME", help="Who can log in; '' for nobody.")
@click.option("--password-stdin", is_flag=True, help="Take the password from standard input, not a random one.")
@click.option("--ssh-key", multiple=True, metavar="FILE", help="A public key that may log in, too.")
@click.argument("path", metavar="NAME", type=click.Path(path_type=Path))
def new(
    target: tuple[str, ...],
    builder: str | None,
    arch: str | None,
    layers_path: tuple[str, ...],
    user: str,
    password_stdin: bool,
    ssh_key: tuple[str, ...],
    path: Path,
) -> None:
    """Begin a workspace: a folder in which a host is built.

    Prints a password for the host's user, which is kept as a hash in overrides/users.

    \b
    Examples:
      wherry host new my-device --target virt/qemu
      wherry host new kiosk --target pi/3,host/base --ssh-key ~/.ssh/id_ed25519.pub
      wherry host new old --builder buildroot --layers-path SkiffOS/configs --target virt/qemu,skiff/core
    """
    from wherry.build.layers import split_names
    from wherry.build.workspace import new_workspace

    names = tuple(split_names(target))
    if not names:
        raise UsageError("which layers?", hint="--target virt/qemu; `wherry layer ls` lists them")
    keys = [_public_key(Path(name)) for name in ssh_key]
    password = _password(password_stdin) if user else ""
    hashed = _hash(password) if user else ""
    top = path.absolute()
    places = tuple(
        os.path.relpath(Path(word).absolute(), top) for text in layers_path for word in text.split(":") if word
    )
    made = new_workspace(
        path, {"target": names, "builder": builder or "", "architecture": arch or "", "layers_path": places}
    )
    if user:
        _add_user(made, user, hashed, keys)
    try:
        host = load(made)
    except BaseException:
        _take_back(made)
        raise
    quiet = settings().quiet
    print(made.path)
    if user and not password_stdin:
        note(f"user {user}, password {password} (only its hash is kept, in overrides/users/login)", quiet=False)
    title = f" for {host.board.title}" if host.board.title else ""
    note(f"{host.inputs.architecture.name}{title}, built by {host.builder.name}: {' '.join(host.layers)}", quiet=quiet)
    note(f"next: wherry host build {path}", quiet=quiet)


def _take_back(workspace: Workspace) -> None:
    import shutil

    shutil.rmtree(workspace.path)


def _password(from_stdin: bool) -> str:
    if not from_stdin:
        return "".join(secrets.choice(_PASSWORD_LETTERS) for _ in range(_PASSWORD_LENGTH))
    text = sys.stdin.readline(1024).rstrip("\n")
    if not text:
        raise UsageError("--password-stdin: nothing came")
    return text


def _hash(password: str) -> str:
    """Returns crypt(3)'s SHA-512 hash; the password never stands in an argument list."""
    from wherry.core.proc import run

    said = run(["openssl", "passwd", "-6", "-stdin"], stdin=f"{password}\n".encode(), hint="apt install openssl")
    return said.stdout.decode().strip()


def _public_key(path: Path) -> str:
    try:
        with open(path, "rb") as file:
            data = file.read(MAX_KEY_BYTES + 1)
    except FileNotFoundError:
        raise NotFound("no such key", where=path) from None
    text = data.decode(errors="replace").strip()
    if len(data) > MAX_KEY_BYTES or "PRIVATE KEY" in text or len(text.split()) < 2 or "\n" in text:
        raise InvalidInput("not a public key of OpenSSH", where=path, hint="give the file that ends with .pub")
    return text


def _add_user(workspace: Workspace, user: str, hashed: str, keys: list[str]) -> None:
    from wherry.core.durable import make_dirs, write_file

    overrides = workspace.path / "overrides"
    make_dirs(overrides / "users")
    table = "# name uid group gid password home shell groups comment\n"
    table += f"{user} -1 {user} -1 {hashed} /home/{user} /bin/sh sudo -\n"
    write_file(overrides / "users/login", table.encode(), mode=0o600)
    if keys:
        home = overrides / "root_overlay/home" / user / ".ssh"
        make_dirs(home)
        os.chmod(home, 0o700)
        write_file(home / "authorized_keys", "".join(f"{key}\n" for key in keys).encode(), mode=0o600)


@click.command()
@click.option("--target", multiple=True, metavar="LAYERS", help="A board and what runs on it.")
@click.option("--builder", type=_BUILDERS, help="How it is built.")
@click.option("--arch", metavar="ARCH", help="Debian's name of the architecture; '' for the board's.")
@click.option("--layers-path", multiple=True, metavar="DIR[:DIR...]", help="Where more layers are.")
@workspace_argument
def configure(
    target: tuple[str, ...],
    builder: str | None,
    arch: str | None,
    layers_path: tuple[str, ...],
    workspace: str | None,
) -> None:
    """Change what a workspace builds; what is said once is remembered in its host.yaml.

    Without options it tells what there is to be built.

    \b
    Examples:
      wherry host configure --target pi/4,host/base
      wherry host configure my-device --arch arm64
    """
    from wherry.build.layers import split_names
    from wherry.build.workspace import FILE, change_settings
    from wherry.core.durable import write_file

    found = find_workspace(workspace)
    places = tuple(
        os.path.relpath(Path(word).absolute(), found.path) for text in layers_path for word in text.split(":") if word
    )
    changes: dict[str, str | tuple[str, ...]] = {}
    if target:
        changes["target"] = tuple(split_names(target))
    if builder is not None:
        changes["builder"] = builder
    if arch is not None:
        changes["architecture"] = arch
    if places:
        changes["layers_path"] = places
    before = (found.path / FILE).read_bytes()
    if changes:
        change_settings(found, changes)
    try:
        host = load(found)
    except BaseException:
        if changes:
            write_file(found.path / FILE, before)
        raise
    rows = [
        ("target", ",".join(host.file.target)),
        ("board", host.board.title),
        ("architecture", host.inputs.architecture.name),
        ("builder", host.builder.name),
        ("layers", " ".join(host.layers)),
    ]
    for title, text in rows:
        if text:
            print(f"{title + ':':14}{text}")
