"""``wherry store remote``: the repositories to pull from."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from wherry.cli.output import print_json
from wherry.cli.store import NO_GPG, SubcommandGroup, open_repo, refused_option, repo_option, split_pair
from wherry.cli.store_pull import base_settings, use_cache
from wherry.cli.store_summary import print_summary
from wherry.core.errors import InvalidInput, Unsupported, UsageError

if TYPE_CHECKING:
    from wherry.store.pull.summary_cache import Fetched
    from wherry.store.repository import Repository


@click.group(
    cls=SubcommandGroup,
    epilog="""\b
Examples:
  wherry store remote add --repo=repo --no-sign-verify origin https://example.com/repo
  wherry store remote list --repo=repo -u""",
)
def remote() -> None:
    """Name the repositories to pull from."""


@remote.command("add", epilog="\b\nExample:\n  wherry store remote add --repo=repo --no-sign-verify o http://host/repo")
@repo_option
@click.argument("name")
@click.argument("url", metavar="[metalink=|mirrorlist=]URL", required=False)
@click.argument("branches", nargs=-1, metavar="[BRANCH]...")
@click.option("--set", "pairs", multiple=True, metavar="KEY=VALUE", help="A further key of the remote.")
@click.option("--no-gpg-verify", is_flag=True, help="Take commits without GPG signature.")
@click.option("--no-sign-verify", is_flag=True, help="Take commits without any signature.")
@click.option("--sign-verify", "sign_verify", multiple=True, metavar="KEYTYPE=[inline|file]:PUBKEY",
              help="Take only commits signed by this key, such as ed25519=inline:KEY.")  # fmt: skip
@click.option("--if-not-exists", is_flag=True, help="Do nothing when it is there.")
@click.option("--force", is_flag=True, help="Replace it when it is there.")
@refused_option("--gpg-import", reason=NO_GPG, metavar="FILE")
@click.option("--custom-backend", metavar="NAME", help="Its content is fetched by something else.")
@click.option("--contenturl", metavar="URL", help="Where its content is, when that is elsewhere.")
@click.option("--collection-id", metavar="ID", help="The collection that its refs belong to.")
def remote_add(
    repo_path: str | None,
    name: str,
    url: str | None,
    branches: tuple[str, ...],
    pairs: tuple[str, ...],
    no_gpg_verify: bool,
    no_sign_verify: bool,
    sign_verify: tuple[str, ...],
    if_not_exists: bool,
    force: bool,
    custom_backend: str | None,
    contenturl: str | None,
    collection_id: str | None,
) -> None:
    """Add a remote."""
    from wherry.store.pull.remote import add_remote
    from wherry.store.refs import parse_collection

    if if_not_exists and force:
        raise UsageError("Can only specify one of --if-not-exists and --force")
    if no_sign_verify and sign_verify:
        raise UsageError("Cannot specify both --sign-verify and --no-sign-verify")
    if url is None and not custom_backend:
        raise UsageError("NAME and URL must be specified")
    values: dict[str, str] = {}
    if url is not None and url.startswith("metalink="):
        values["metalink"] = url.removeprefix("metalink=")
    elif url is not None:
        values["url"] = url
    if branches:
        values["branches"] = ";".join(branches) + ";"
    if contenturl:
        values["contenturl"] = contenturl
    for item in pairs:
        key, value = split_pair(item, "--set")
        values[key] = value
    if no_gpg_verify or no_sign_verify or sign_verify:
        values["gpg-verify"] = "false"
    if no_sign_verify:
        values["sign-verify"] = "false"
    if custom_backend:
        values["custom-backend"] = custom_backend
    if collection_id:
        values["collection-id"] = parse_collection(collection_id)
    for item in sign_verify:
        _sign_verify(item, values)
    add_remote(open_repo(repo_path), name, values, if_not_exists=if_not_exists, force=force)


def _sign_verify(text: str, values: dict[str, str]) -> None:
    """Adds what ``KEYTYPE=inline:KEY`` or ``KEYTYPE=file:PATH`` means to the keys of a remote."""
    from wherry.store.sign import engine

    kind, equals, reference = text.partition("=")
    if not equals:
        raise UsageError(f"Failed to parse KEYTYPE=[inline|file]:DATA in {text}")
    engine(kind)
    how, colon, key = reference.partition(":")
    if how not in ("inline", "file") or not colon:
        raise UsageError(f"Invalid key reference {reference}, expected inline|file", hint="write KEYTYPE=inline:KEY")
    kinds = [item for item in values.get("sign-verify", "").split(";") if item and item != kind]
    values["sign-verify"] = ";".join([*kinds, kind])
    values[f"verification-{kind}-{'key' if how == 'inline' else 'file'}"] = key


@remote.command("delete", epilog="\b\nExample:\n  wherry store remote delete --repo=repo origin")
@repo_option
@click.argument("name")
@click.option("--if-exists", is_flag=True, help="Do nothing when it is not there.")
def remote_delete(repo_path: str | None, name: str, if_exists: bool) -> None:
    """Delete a remote and its cookies; its refs stay."""
    from wherry.store.pull.remote import delete_remote

    delete_remote(open_repo(repo_path), name, if_exists=if_exists)


@remote.command("list", epilog="\b\nExample:\n  wherry store remote list --repo=repo -u")
@repo_option
@click.option("-u", "--show-urls", is_flag=True, help="Show where they are.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def remote_list(repo_path: str | None, show_urls: bool, as_json: bool) -> None:
    """List the remotes."""
    from wherry.store.pull.remote import list_remotes

    found = list_remotes(open_repo(repo_path))
    if as_json:
        print_json([{"name": name, "url": item.get("url")} for name, item in found.items()])
        return
    width = max(map(len, found), default=0)
    for name, item in found.items():
        print(f"{name.ljust(width)}  {item.get('url')}" if show_urls else name)


@remote.command("show-url", epilog="\b\nExample:\n  wherry store remote show-url --repo=repo origin")
@repo_option
@click.argument("name")
def remote_show_url(repo_path: str | None, name: str) -> None:
    """Print where a remote is."""
    from wherry.store.pull.remote import find_remote

    print(find_remote(open_repo(repo_path), name).url)


@remote.command("refs", epilog="\b\nExample:\n  wherry store remote refs --repo=repo origin")
@repo_option
@click.argument("name")
@click.option("--cache-dir", type=click.Path(path_type=Path), metavar="DIR", help="Where summaries are kept.")
@click.option("-r", "--revision", is_flag=True, help="Show their commits too.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON: ref and commit.")
def remote_refs(repo_path: str | None, name: str, cache_dir: Path | None, revision: bool, as_json: bool) -> None:
    """List the refs of a remote."""
    from wherry.store.summary import parse_summary

    repo = open_repo(repo_path)
    entries = parse_summary(_summary_of(repo, name, cache_dir).data, where=f"summary of {name}").refs
    if as_json:
        print_json({f"{name}:{entry.ref}": entry.commit for entry in entries})
        return
    for entry in entries:
        print(f"{name}:{entry.ref}\t{entry.commit}" if revision else f"{name}:{entry.ref}")


@remote.command("summary", epilog="\b\nExample:\n  wherry store remote summary --repo=repo origin")
@repo_option
@click.argument("name")
@click.option("--cache-dir", type=click.Path(path_type=Path), metavar="DIR", help="Where summaries are kept.")
@click.option("--raw", is_flag=True, help="Show it as GVariant text.")
@click.option("--list-metadata-keys", is_flag=True, help="List the keys of its metadata.")
@click.option("--print-metadata-key", metavar="KEY", help="Print one value of its metadata.")
def remote_summary(
    repo_path: str | None,
    name: str,
    cache_dir: Path | None,
    raw: bool,
    list_metadata_keys: bool,
    print_metadata_key: str | None,
) -> None:
    """Show the summary of a remote."""
    data = _summary_of(open_repo(repo_path), name, cache_dir).data
    print_summary(data, f"summary of {name}", raw=raw, keys=list_metadata_keys, key=print_metadata_key)


def _summary_of(repo: Repository, name: str, cache_dir: Path | None) -> Fetched:
    """Fetches the summary of a remote."""
    from wherry.cli.store_sign import allow_dummy
    from wherry.store.pull.pull import read_remote_summary
    from wherry.store.pull.remote import find_remote

    return read_remote_summary(
        repo,
        find_remote(repo, name),
        transfer=base_settings(),
        cache_dir=cache_dir,
        use_cache=use_cache(),
        allow_dummy=allow_dummy(),
    )


# --- cookies


@remote.command("add-cookie", epilog="\b\nExample:\n  wherry store remote add-cookie --repo=repo o host / key value")
@repo_option
@click.argument("name")
@click.argument("domain")
@click.argument("path")
@click.argument("cookie_name")
@click.argument("value")
def remote_add_cookie(repo_path: str | None, name: str, domain: str, path: str, cookie_name: str, value: str) -> None:
    """Have a cookie sent to a remote."""
    from wherry.store.pull.cookies import add_cookie
    from wherry.store.pull.remote import cookie_path

    add_cookie(cookie_path(open_repo(repo_path), name), domain, path, cookie_name, value)


@remote.command("delete-cookie", epilog="\b\nExample:\n  wherry store remote delete-cookie --repo=repo o host / key")
@repo_option
@click.argument("name")
@click.argument("domain")
@click.argument("path")
@click.argument("cookie_name")
@click.argument("value", required=False)
def remote_delete_cookie(
    repo_path: str | None, name: str, domain: str, path: str, cookie_name: str, value: str | None
) -> None:
    """Send a cookie no more; with VALUE only when that is what it has."""
    from wherry.store.pull.cookies import delete_cookie
    from wherry.store.pull.remote import cookie_path

    delete_cookie(cookie_path(open_repo(repo_path), name), domain, path, cookie_name, value)


@remote.command("list-cookies", epilog="\b\nExample:\n  wherry store remote list-cookies --repo=repo origin")
@repo_option
@click.argument("name")
def remote_list_cookies(repo_path: str | None, name: str) -> None:
    """Show the cookies of a remote."""
    from wherry.store.pull.cookies import read_cookies
    from wherry.store.pull.remote import cookie_path

    for cookie in read_cookies(cookie_path(open_repo(repo_path), name)):
        try:
            expires = datetime.fromtimestamp(cookie.expires_s, UTC).strftime("%Y-%m-%d %H:%M:%S +0000")
        except (ValueError, OverflowError, OSError):
            raise InvalidInput("a cookie with no time that can be", where=cookie.name) from None
        secure = "yes" if cookie.secure else "no"
        print(f"--\nDomain: {cookie.domain}\nPath: {cookie.path}\nName: {cookie.name}\nSecure: {secure}")
        print(f"Expires: {expires}\nValue: {cookie.value}")


# --- what is not there


@remote.command("gpg-import", epilog="\b\nRefused:\n  wherry store remote gpg-import --repo=repo origin")
@repo_option
@click.argument("name")
@click.argument("keys", nargs=-1, metavar="[KEY-ID]...")
@click.option("-k", "--keyring", multiple=True, metavar="FILE", help="From a keyring.")
@click.option("--stdin", is_flag=True, help="From standard input.")
def remote_gpg_import(
    repo_path: str | None, name: str, keys: tuple[str, ...], keyring: tuple[str, ...], stdin: bool
) -> None:
    """Refused: Wherry has no GPG."""
    del repo_path, name, keys, keyring, stdin
    raise Unsupported(f"remote gpg-import: {NO_GPG}", hint="remote add --sign-verify=ed25519=inline:KEY")


@remote.command("gpg-list-keys", epilog="\b\nRefused:\n  wherry store remote gpg-list-keys --repo=repo origin")
@repo_option
@click.argument("name", required=False)
def remote_gpg_list_keys(repo_path: str | None, name: str | None) -> None:
    """Refused: Wherry has no GPG."""
    del repo_path, name
    raise Unsupported(f"remote gpg-list-keys: {NO_GPG}", hint="the config's verification-ed25519-key names a key")
