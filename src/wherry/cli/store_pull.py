"""``wherry store pull``, ``pull-local`` and ``remote``.

A remote whose section does not say ``gpg-verify=false`` wants signatures, as in OSTree. Wherry checks Ed25519 ones
(``sign-verify``) and no others, so it refuses to pull from a remote that asks for GPG alone.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from wherry.cli.context import settings
from wherry.cli.output import print_json
from wherry.cli.store import SubcommandGroup, open_repo, repo_option, split_pair
from wherry.core.errors import Conflict, InvalidInput, NotFound, TrustError, Unsupported, UsageError

if TYPE_CHECKING:
    from wherry.core.digest import Checksum, Ref
    from wherry.core.http import HttpClient
    from wherry.store.pull import Plan, RemotePull, Verify
    from wherry.store.repository import Repository

_SIGNATURES = "ostree.sign.ed25519"


def _section(name: str) -> str:
    return f'remote "{name}"'


@click.command(
    epilog="""\b
Examples:
  wherry store pull --repo=repo origin os/main
  wherry store pull --repo=repo --mirror origin
  wherry store pull --repo=repo --url=http://192.0.2.1/repo origin os/main"""
)
@repo_option
@click.argument("remote_name", metavar="REMOTE")
@click.argument("branches", nargs=-1, metavar="[BRANCH]...")
@click.option("--mirror", is_flag=True, help="Write refs as they are there; all of them when none is named.")
@click.option("--depth", type=click.IntRange(min=-1), default=0, help="How many parents too (-1: all).")
@click.option("--url", metavar="URL", help="Pull from here instead of from where the config says.")
@click.option("--ca", type=click.Path(path_type=Path), help="The only certificate authority to trust.")
@click.option("--token-env", metavar="NAME", help="Environment variable with a bearer token.")
@click.option("--disable-verify-bindings", is_flag=True, help="Take commits that were made for other refs.")
def pull(
    repo_path: str | None,
    remote_name: str,
    branches: tuple[str, ...],
    mirror: bool,
    depth: int,
    url: str | None,
    ca: Path | None,
    token_env: str | None,
    disable_verify_bindings: bool,
) -> None:
    """Fetch commits from a remote over HTTP: refs, or checksums of commits.

    What has come is kept when the link breaks; the same command goes on from there.
    """
    from wherry.core.digest import is_checksum
    from wherry.core.http import HttpClient
    from wherry.store.pull import RemotePull
    from wherry.store.refs import parse_ref

    repo = open_repo(repo_path)
    section = _remote(repo, remote_name, given=url)
    base, path = _split_url(url or section["url"])
    client = HttpClient(base, token=os.environ.get(token_env) if token_env else None, ca_file=ca)
    try:
        puller = RemotePull(repo, client, path, verify=_verifier(remote_name, section))
        puller.check_remote()
        names = list(branches) or [name for name in section.get("branches", "").split(";") if name]
        if not names and mirror:
            names = [str(ref) for ref in puller.remote_refs()]
        if not names:
            raise UsageError("no branch is named", hint="name one, or pull all with --mirror")
        found = {name: puller.resolve(name) for name in names}
        moved = {
            parse_ref(name if mirror else f"{remote_name}:{name}"): commit
            for name, commit in found.items()
            if not is_checksum(name)
        }
        _pull(repo, puller, client, found, depth=depth, moved=moved, check_bindings=not disable_verify_bindings)
    finally:
        client.close()


def _pull(
    repo: Repository,
    puller: RemotePull,
    client: HttpClient,
    found: dict[str, Checksum],
    *,
    depth: int,
    moved: dict[Ref, Checksum],
    check_bindings: bool,
) -> None:
    began = time.monotonic()
    progress = settings().progress()
    plan: Plan = puller.plan(found.values(), depth=depth, progress=progress)
    if check_bindings:
        for ref, commit in moved.items():
            _check_binding(repo, ref, commit)
    stats = puller.fetch(plan, progress=progress)
    puller.commit(plan, moved)
    spent = time.monotonic() - began
    for name in stats.refetched:
        click.echo(f"came damaged, fetched again: {name}", err=True)
    print(
        f"{plan.metadata_fetched} metadata, {len(plan.missing_files)} content objects fetched; "
        f"{stats.bytes_received // 1024} KiB transferred in {spent:.0f} seconds"
    )


def _check_binding(repo: Repository, ref: Ref, commit: Checksum) -> None:
    from wherry.store.refs import split_ref

    bound: Any = repo.load_commit(commit).metadata.get("ostree.ref-binding")
    if isinstance(bound, list) and split_ref(ref)[1] not in bound:
        raise TrustError(
            f"the commit was made for other refs: {', '.join(map(str, bound))}",
            where=f"{ref} at {commit}",
            hint="--disable-verify-bindings takes it anyway",
        )


def _remote(repo: Repository, name: str, *, given: str | None) -> dict[str, str]:
    section = _section(name)
    if section not in repo.config.sections():
        if given:
            return {"url": given}
        raise NotFound(f"no such remote: {name}", where=repo.path, hint="add it with `wherry store remote add`")
    return {key: repo.config.get(section, key) for key in repo.config.keys(section)}


def _split_url(url: str) -> tuple[str, str]:
    """Returns scheme with host, and the path."""
    from urllib.parse import urlsplit

    parts = urlsplit(url)
    if parts.scheme not in ("http", "https"):
        raise Unsupported(
            f"cannot pull over {parts.scheme or 'this'}", where=url, hint="use http, https, or pull-local"
        )
    return f"{parts.scheme}://{parts.netloc}", parts.path.rstrip("/")


def _verifier(name: str, section: Mapping[str, str]) -> Verify | None:
    """Returns what checks the signatures of a remote's commits, None when it wants none."""
    wanted = section.get("sign-verify", "false")
    if wanted in ("false", "0", ""):
        if section.get("gpg-verify", "true") in ("false", "0"):
            return None
        raise TrustError(
            f"remote {name} wants GPG signatures, which Wherry cannot check",
            hint="add it with --sign-verify=ed25519=inline:KEY, or with --no-gpg-verify",
        )
    from wherry.trust.keys import PublicKey

    keys = []
    if section.get("verification-ed25519-key"):
        keys.append(PublicKey.from_base64(section["verification-ed25519-key"], where=f"remote {name}"))
    if section.get("verification-ed25519-file"):
        path = Path(section["verification-ed25519-file"])
        lines = [line for line in path.read_text().splitlines() if line.strip() and not line.startswith("#")]
        keys += [PublicKey.from_base64(line, where=path) for line in lines]
    if not keys:
        raise TrustError(f"remote {name} wants signatures and has no key", hint="set verification-ed25519-key")

    def verify(commit: Checksum, data: bytes, detached: Mapping[str, Any]) -> None:
        signatures = detached.get(_SIGNATURES, [])
        for signature in signatures if isinstance(signatures, list) else []:
            for key in keys:
                try:
                    key.verify(data, signature)
                except (TrustError, InvalidInput):
                    continue
                return
        raise TrustError(f"no good signature by a key of remote {name}", where=commit)

    return verify


@click.command(
    "pull-local",
    epilog="\b\nExample:\n  wherry store pull-local --repo=repo /srv/other-repo os/main",
)
@repo_option
@click.argument("source", metavar="SRC_REPO", type=click.Path(path_type=Path))
@click.argument("revs", nargs=-1, metavar="[REF]...")
@click.option("--remote", "remote_name", default="", metavar="REMOTE", help="Write the refs as REMOTE:REF.")
@click.option("--untrusted", is_flag=True, help="Copy and check every object, do not link.")
@click.option("--depth", type=click.IntRange(min=-1), default=0, help="How many parents too (-1: all).")
def pull_local(
    repo_path: str | None, source: Path, revs: tuple[str, ...], remote_name: str, untrusted: bool, depth: int
) -> None:
    """Copy commits from another repository on this machine: refs (all of them when none is named) or checksums."""
    from wherry.store.pull_local import pull_local as copy
    from wherry.store.repository import Repository

    stats = copy(
        open_repo(repo_path),
        Repository.open(source),
        revs or None,
        remote=remote_name,
        depth=depth,
        untrusted=untrusted,
        progress=settings().progress(),
    )
    print(f"{stats.objects} objects copied, {stats.linked} of them by hard links")


@click.group(
    cls=SubcommandGroup,
    epilog="""\b
Examples:
  wherry store remote add --repo=repo --no-gpg-verify origin https://example.com/repo
  wherry store remote list --repo=repo -u""",
)
def remote() -> None:
    """Name the repositories to pull from."""


@remote.command("add", epilog="\b\nExample:\n  wherry store remote add --repo=repo --no-gpg-verify o http://host/repo")
@repo_option
@click.argument("name")
@click.argument("url")
@click.argument("branches", nargs=-1, metavar="[BRANCH]...")
@click.option("--set", "pairs", multiple=True, metavar="KEY=VALUE", help="A further key of the remote.")
@click.option("--no-gpg-verify", is_flag=True, help="Take commits without GPG signature.")
@click.option("--no-sign-verify", is_flag=True, help="Take commits without Ed25519 signature.")
@click.option("--sign-verify", metavar="ed25519=inline:KEY|file:PATH", help="Take only commits signed by this key.")
@click.option("--if-not-exists", is_flag=True, help="Do nothing when it is there.")
@click.option("--force", is_flag=True, help="Replace it when it is there.")
def remote_add(
    repo_path: str | None,
    name: str,
    url: str,
    branches: tuple[str, ...],
    pairs: tuple[str, ...],
    no_gpg_verify: bool,
    no_sign_verify: bool,
    sign_verify: str | None,
    if_not_exists: bool,
    force: bool,
) -> None:
    """Add a remote."""
    from wherry.store.refs import parse_ref

    repo = open_repo(repo_path)
    parse_ref(f"{name}:x")
    section = _section(name)
    if section in repo.config.sections():
        if if_not_exists:
            return
        if not force:
            raise Conflict("there is such a remote already", where=name, hint="--force replaces it")
        repo.config.remove_section(section)
    values = {"url": url}
    if branches:
        values["branches"] = ";".join(branches) + ";"
    if no_gpg_verify or sign_verify:
        values["gpg-verify"] = "false"
    if no_sign_verify:
        values["sign-verify"] = "false"
    if sign_verify:
        values |= _sign_verify(sign_verify)
    for item in pairs:
        key, value = split_pair(item, "--set")
        values[key] = value
    for key, value in values.items():
        if "\n" in value or "\n" in key:
            raise UsageError(f"a line break in {key}")
        repo.config.set(section, key, value)
    repo.save_config()


def _sign_verify(text: str) -> dict[str, str]:
    kind, value = split_pair(text, "--sign-verify")
    how, colon, key = value.partition(":")
    if kind != "ed25519" or how not in ("inline", "file") or not colon:
        raise UsageError(f"--sign-verify is not ed25519=inline:KEY or ed25519=file:PATH: {text!r}")
    return {"sign-verify": "ed25519", f"verification-ed25519-{'key' if how == 'inline' else 'file'}": key}


@remote.command("list", epilog="\b\nExample:\n  wherry store remote list --repo=repo -u")
@repo_option
@click.option("-u", "--show-urls", is_flag=True, help="Show where they are.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def remote_list(repo_path: str | None, show_urls: bool, as_json: bool) -> None:
    """List the remotes."""
    repo = open_repo(repo_path)
    names = sorted(
        section[8:-1] for section in repo.config.sections() if section.startswith('remote "') and section.endswith('"')
    )
    urls = {name: repo.config.get(_section(name), "url") for name in names}
    if as_json:
        print_json([{"name": name, "url": url} for name, url in urls.items()])
        return
    width = max(map(len, names), default=0)
    for name, url in urls.items():
        print(f"{name.ljust(width)}  {url}" if show_urls else name)


@remote.command("delete", epilog="\b\nExample:\n  wherry store remote delete --repo=repo origin")
@repo_option
@click.argument("name")
@click.option("--if-exists", is_flag=True, help="Do nothing when it is not there.")
def remote_delete(repo_path: str | None, name: str, if_exists: bool) -> None:
    """Delete a remote; its refs stay."""
    repo = open_repo(repo_path)
    if _section(name) not in repo.config.sections():
        if if_exists:
            return
        raise NotFound(f"no such remote: {name}", where=repo.path)
    repo.config.remove_section(_section(name))
    repo.save_config()


@remote.command("show-url", epilog="\b\nExample:\n  wherry store remote show-url --repo=repo origin")
@repo_option
@click.argument("name")
def remote_show_url(repo_path: str | None, name: str) -> None:
    """Print where a remote is."""
    print(_remote(open_repo(repo_path), name, given=None)["url"])
