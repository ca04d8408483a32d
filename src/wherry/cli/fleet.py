"""``wherry fleet``: the devices, as a hub knows them."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from wherry.cli.context import settings
from wherry.cli.hubs import credentials, hub_client
from wherry.cli.output import ago, note, print_json, print_table
from wherry.core.digest import short
from wherry.core.errors import Conflict, NotFound, UsageError
from wherry.core.units import format_duration, parse_duration_ms

if TYPE_CHECKING:
    from wherry.revision.hubclient import HubClient
    from wherry.spec.wire import DeviceInfo, EnrolmentToken, RevisionInfo

PASSWORD_VARIABLE = "WHERRY_HUB_PASSWORD"  # noqa: S105 a name, not a secret
HUB_VARIABLE = "WHERRY_HUB"
SHORT_ID = 8
_DEFAULT_LIMIT = 50


@click.group(
    epilog="""\b
Examples:
  wherry fleet login https://hub.example:8443
  wherry fleet devices
  wherry fleet accept kiosk-7
  wherry fleet assign kiosk-7 3f9a21c04b11
  wherry fleet history kiosk-7"""
)
def fleet() -> None:
    """Devices, as the hub knows them.

    A DEVICE is a device's name, its id, or the beginning of its id.
    """


def _hub_options(function: Any) -> Any:
    ca = click.option("--ca", type=click.Path(path_type=Path, exists=True), help="The authority to trust, PEM.")
    url = click.option(
        "--hub", "url", envvar=HUB_VARIABLE, metavar="URL", help="Which hub; needed with several logins."
    )
    return url(ca(function))


_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@fleet.command()
@click.argument("url")
@click.option("--user", default="admin", show_default=True)
@click.option("--ca", type=click.Path(path_type=Path, exists=True), help="The authority to trust, PEM.")
def login(url: str, user: str, ca: Path | None) -> None:
    """Log in at the hub URL and keep its token.

    The password is $WHERRY_HUB_PASSWORD, or asked for. The token goes to $XDG_CONFIG_HOME/wherry/credentials.json.
    """
    password = os.environ.get(PASSWORD_VARIABLE, "")
    if not password:
        if not sys.stdin.isatty():
            raise UsageError("no password given", hint=f"set {PASSWORD_VARIABLE}, or call it on a terminal")
        password = click.prompt(f"password for {user}", hide_input=True, err=True)
    from wherry.revision.credentials import Login
    from wherry.revision.hubclient import HubClient

    client = HubClient(url, None, ca)
    answer = client.login(user, password)
    kept = credentials()
    kept.put(url, Login(token=answer.token, user=answer.user, expires_s=int(time.time()) + answer.expires_in_s))
    note(f"logged in at {client.url} as {answer.user}", quiet=settings().quiet)


@fleet.command()
@_hub_options
def logout(url: str | None, ca: Path | None) -> None:
    """End the login at a hub and forget its token."""
    client = _client(url, ca)
    client.logout()
    credentials().remove(client.url)


@fleet.command()
@_hub_options
@_json
def devices(url: str | None, ca: Path | None, as_json: bool) -> None:
    """List the devices."""
    client = _client(url, ca)
    found = client.devices()
    if as_json:
        print_json([asdict(device) for device in found])
        return
    subjects = {revision.commit: revision.subject for revision in client.revisions()}
    print_table(("ID", "NAME", "STATE", "RUNS", "WANTED", "SEEN", "SUBJECT"), device_rows(found, subjects), shrink=6)


@fleet.command()
@click.argument("device", metavar="DEVICE")
@_hub_options
def accept(device: str, url: str | None, ca: Path | None) -> None:
    """Let a device in."""
    found = _client(url, ca).accept(device)
    note(f"accepted {found.name} ({found.id[:SHORT_ID]})", quiet=settings().quiet)


@fleet.command()
@click.argument("device", metavar="DEVICE")
@_hub_options
def reject(device: str, url: str | None, ca: Path | None) -> None:
    """Keep a device out; its sessions end."""
    found = _client(url, ca).reject(device)
    note(f"rejected {found.name} ({found.id[:SHORT_ID]})", quiet=settings().quiet)


@fleet.command()
@click.argument("device", metavar="DEVICE")
@_hub_options
def rm(device: str, url: str | None, ca: Path | None) -> None:
    """Forget a device and its history."""
    _client(url, ca).remove(device)


@fleet.command()
@click.argument("device", metavar="DEVICE")
@click.argument("revision", metavar="REVISION")
@_hub_options
def assign(device: str, revision: str, url: str | None, ca: Path | None) -> None:
    """Order a device to run a revision.

    REVISION is a commit, the beginning of one, or a project's name for its newest.
    """
    client = _client(url, ca)
    chosen = find_revision(client.revisions(), client.refs(), revision)
    found = client.assign(device, chosen)
    note(f"{found.name}: assignment {found.assignment} is {short(chosen)}", quiet=settings().quiet)


@fleet.command()
@click.argument("device", metavar="DEVICE")
@click.option("-n", "--max-count", "limit", type=click.IntRange(1, 1000), default=_DEFAULT_LIMIT, show_default=True)
@_hub_options
@_json
def history(device: str, limit: int, url: str | None, ca: Path | None, as_json: bool) -> None:
    """Show what happened to a device, the newest first."""
    found = _client(url, ca).history(device, limit=limit)
    if as_json:
        print_json([asdict(line) for line in found])
        return
    rows = [
        (
            time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(line.time_s)),
            line.event,
            short(line.revision) if line.revision else "",
            line.by,
            " | ".join(part.strip() for part in line.detail.splitlines()),
        )
        for line in found
    ]
    print_table(("TIME", "EVENT", "REVISION", "BY", "DETAIL"), rows, shrink=4)


@fleet.command()
@_hub_options
@_json
def revisions(url: str | None, ca: Path | None, as_json: bool) -> None:
    """List the revisions that the hub has."""
    found = _client(url, ca).revisions()
    if as_json:
        print_json([asdict(revision) for revision in found])
        return
    rows = [
        (
            short(revision.commit),
            revision.ref.removeprefix("revision/"),
            ago(revision.time_s),
            ",".join(revision.apps),
            revision.subject,
        )
        for revision in found
    ]
    print_table(("REVISION", "PROJECT", "COMMITTED", "APPS", "SUBJECT"), rows, shrink=4)


@fleet.group()
def token() -> None:
    """Tokens that devices enrol with."""


@token.command("create")
@click.option("--uses", type=click.IntRange(min=1), default=1, show_default=True, help="How many devices.")
@click.option("--expires", default="1h", show_default=True, help="For how long.")
@click.option("--note", "text", default="", help="What it is for.")
@_hub_options
@_json
def token_create(uses: int, expires: str, text: str, url: str | None, ca: Path | None, as_json: bool) -> None:
    """Make an enrolment token and print it."""
    life_s = parse_duration_ms(expires, where="--expires") // 1000
    made = _client(url, ca).make_enrolment_token(uses=uses, expires_in_s=life_s, note=text)
    if as_json:
        print_json(asdict(made))
        return
    print(made.token)
    note(f"{uses} use{'s' * (uses > 1)}, expires in {format_duration(life_s)}; id {made.id}", quiet=settings().quiet)


@token.command("list")
@_hub_options
@_json
def token_list(url: str | None, ca: Path | None, as_json: bool) -> None:
    """List enrolment tokens (never the secrets)."""
    found = _client(url, ca).enrolment_tokens()
    if as_json:
        print_json([asdict(one) for one in found])
        return
    print_table(("ID", "STATE", "USES LEFT", "CREATED", "BY", "NOTE"), token_rows(found))


@token.command("revoke")
@click.argument("token_id", metavar="ID")
@_hub_options
def token_revoke(token_id: str, url: str | None, ca: Path | None) -> None:
    """Have an enrolment token open nothing any more."""
    _client(url, ca).revoke_enrolment_token(token_id)


def device_rows(found: Sequence[DeviceInfo], subjects: dict[str, str]) -> list[tuple[str, ...]]:
    """Returns one row for each device; narrow, so that a table of them fits 80 columns."""
    return [
        (
            device.id[:SHORT_ID],
            device.name,
            device_word(device),
            short(device.current)[:SHORT_ID] if device.current else "-",
            short(device.desired)[:SHORT_ID] if device.desired else "-",
            ago(device.last_seen_s).removesuffix(" ago"),
            subjects.get(device.current or "", ""),
        )
        for device in found
    ]


def device_word(device: DeviceInfo) -> str:
    """Returns the one word that says how a device is."""
    from wherry.spec.wire import FINAL_STATES, DeviceState, UpdateState

    if device.state is not DeviceState.ACCEPTED:
        return device.state.value
    if device.update_state in FINAL_STATES - {UpdateState.DONE}:
        return device.update_state.value
    if not device.online:
        return "offline"
    if device.current != device.desired and device.desired is not None:
        return "waiting" if device.update_state in (UpdateState.IDLE, UpdateState.DONE) else device.update_state.value
    return "current" if device.desired else "idle"


def token_rows(found: Sequence[EnrolmentToken]) -> list[tuple[str, ...]]:
    """Returns one row for each enrolment token."""
    now = time.time()
    rows: list[tuple[str, ...]] = []
    for one in found:
        left_s = one.expires_s - now
        state = f"{format_duration(left_s)} left" if left_s > 0 else "expired"
        state = "revoked" if one.revoked else "spent" if one.uses_left < 1 else state
        rows.append((one.id, state, str(one.uses_left), ago(one.created_s), one.by, one.note))
    return rows


def find_revision(known: Sequence[RevisionInfo], refs: Any, text: str) -> str:
    """Returns the commit that `text` names: a commit, the beginning of one, or a project.

    Raises:
        NotFound: none of the hub's revisions.
        Conflict: several begin so.
    """
    for name in (text, f"revision/{text}"):
        if name in refs:
            return str(refs[name])
    found = [revision.commit for revision in known if revision.commit.startswith(text.lower())] if text else []
    if not found:
        raise NotFound("the hub has no such revision", where=text, hint="push it, or see `wherry fleet revisions`")
    if len(found) > 1:
        raise Conflict(f"{len(found)} revisions begin so", where=text, hint="give more digits")
    return found[0]


def _client(url: str | None, ca: Path | None) -> HubClient:
    """Returns a client of the hub that is meant: the one named, or the only login."""
    if url is None:
        known = credentials().urls()
        if len(known) != 1:
            raise UsageError(
                "which hub?" if known else "not logged in at any hub",
                hint=f"use --hub URL or set {HUB_VARIABLE}" if known else "run `wherry fleet login URL`",
            )
        url = known[0]
    return hub_client(url, ca_file=ca)
