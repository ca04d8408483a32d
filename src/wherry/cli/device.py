"""``wherry device``: this machine as a device of a fleet."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from wherry.cli.context import secret, settings
from wherry.cli.output import ago, note, print_json, print_table
from wherry.core.errors import Conflict, NotFound, Unhealthy, UsageError, WherryError
from wherry.core.units import format_size

if TYPE_CHECKING:
    from wherry.core.digest import Checksum
    from wherry.device.assembly import Opened
    from wherry.device.interfaces import Containers
    from wherry.device.journal import Line
    from wherry.device.machine import Order, State
    from wherry.device.paths import DevicePaths
    from wherry.device.status import Status

DEFAULT_DIR = "/var/lib/wherry/device"
MAX_TOKEN_BYTES = 4096
STOP_TIMEOUT_S = 10.0
_FOLLOW_POLL_S = 0.2


@click.group(
    epilog="""\b
Examples:
  wherry device enroll --hub https://hub.example:8443 --token-file token --trust owner.pub
  wherry device run
  wherry device status
  wherry device rollback"""
)
def device() -> None:
    """This machine as a device of a fleet: its state lies below one folder, so a machine can hold several."""


_dir = click.option(
    "--dir",
    "directory",
    type=click.Path(path_type=Path),
    envvar="WHERRY_DEVICE_DIR",
    default=DEFAULT_DIR,
    show_default=True,
    help="The device's folder.",
)
_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@device.command()
@_dir
@click.option("--hub", "hub_url", metavar="URL", required=True, help="The hub's address.")
@click.option("--token-file", type=click.Path(path_type=Path), help="File that holds the enrolment token.")
@click.option("--token-env", metavar="NAME", help="Environment variable that holds it.")
@click.option(
    "--trust",
    "trusted",
    metavar="KEYFILE",
    type=click.Path(path_type=Path),
    multiple=True,
    required=True,
    help="Public key of an owner whose revisions may run here; may be given several times.",
)
@click.option("--name", default="", help="What people call the device. [default: the host's name]")
@click.option("--target", default="", help="What it is: only revisions for this target run here.")
@click.option(
    "--ca", "ca_file", type=click.Path(path_type=Path, exists=True), help="Authority of the hub's certificate."
)
def enroll(
    directory: Path,
    hub_url: str,
    token_file: Path | None,
    token_env: str | None,
    trusted: tuple[Path, ...],
    name: str,
    target: str,
    ca_file: Path | None,
) -> None:
    """Make a device of this machine and have it ask a hub to be let in.

    The device makes a key of its own, which never leaves it. The token is used once and not kept. Which keys may
    sign what runs here is settled now: the hub cannot change it.
    """
    from wherry.device.identity import Enrolment, enrol
    from wherry.device.paths import DevicePaths
    from wherry.spec.wire import DeviceState
    from wherry.trust.keys import load_public

    wanted = Enrolment(
        hub=hub_url,
        token=_token(token_file, token_env),
        trusted_keys=[load_public(path) for path in trusted],
        name=name or os.uname().nodename,
        target=target,
        ca_file=ca_file,
    )
    identity, state = enrol(DevicePaths(directory.absolute()), wanted)
    print(identity.device_id)
    if state is DeviceState.PENDING:
        note(f"a person must accept it: wherry fleet accept {wanted.name}", quiet=settings().quiet)
    note(f"next: wherry device run --dir {directory}", quiet=settings().quiet)


@device.command()
@_dir
@click.option("--once", is_flag=True, help="Look once, do what there is to do, and end.")
def run(directory: Path, once: bool) -> None:
    """Look after the device: ask the hub what to run, update, watch, report.

    Runs until SIGTERM or Ctrl-C. The apps go on running when it ends, and are found again when it starts.

    With --once it ends with 0 when the device is settled, with 14 when a revision was rolled back, and else with
    the status of the error.
    """
    from wherry.device.assembly import open_device

    with open_device(directory.absolute(), settings().run_root, echo=_echo) as opened:
        _stop_on_signals(opened)
        if not once:
            opened.agent.run()
            return
        before = opened.agent.state.outcome
        opened.agent.run_once()
        _judge(opened, changed=opened.agent.state.outcome != before)
        if opened.agent.hub_error is not None:
            raise opened.agent.hub_error


@device.command()
@_dir
@_json
def status(directory: Path, as_json: bool) -> None:
    """Show revisions, apps, the link to the hub and the disk."""
    from wherry.device.status import read_status

    found = read_status(directory.absolute(), _containers)
    if as_json:
        print_json(_plain(found))
        return
    _print_status(found)


@device.command()
@_dir
@click.argument("commit")
def apply(directory: Path, commit: str) -> None:
    """Run the revision COMMIT, by hand.

    It may lie on the hub or in the device's store, must be signed by a trusted key, and is tried as any other: it
    is rolled back when it is not healthy. The hub's next assignment replaces it.
    """
    from wherry.device.machine import Order, Origin

    def order(state: State, paths: DevicePaths) -> Order:
        return Order(revision=_resolve(paths, commit), origin=Origin.APPLY)

    _do_by_hand(directory.absolute(), order)


@device.command()
@_dir
def rollback(directory: Path) -> None:
    """Go back to the revision that ran before this one."""
    from wherry.device.machine import Order, Origin

    def order(state: State, paths: DevicePaths) -> Order:
        if state.last_good is None:
            raise NotFound("there is no revision to go back to", where=paths.root)
        return Order(revision=state.last_good, origin=Origin.ROLLBACK)

    _do_by_hand(directory.absolute(), order)


@device.command()
@_dir
def down(directory: Path) -> None:
    """Stop all apps of the device. `wherry device run` starts them again."""
    from wherry.device.assembly import open_device

    with open_device(directory.absolute(), settings().run_root) as opened:
        stopped = opened.agent.updater.stop_apps()
    note(f"stopped {stopped} containers", quiet=settings().quiet)


@device.command()
@_dir
@click.option("-n", "--lines", "count", type=click.IntRange(0), default=50, show_default=True, help="How many lines.")
@click.option("-f", "--follow", is_flag=True, help="Go on with what comes.")
@_json
def log(directory: Path, count: int, follow: bool, as_json: bool) -> None:
    """Show what the device did."""
    from wherry.core.jsonio import canonical
    from wherry.device.identity import load_identity
    from wherry.device.journal import Journal
    from wherry.device.paths import DevicePaths
    from wherry.spec.codec import encode

    paths = DevicePaths(directory.absolute())
    load_identity(paths)
    journal = Journal(paths.log)

    def show(line: Line) -> None:
        if as_json:
            print(canonical(encode(line)).decode(), flush=True)
        else:
            print(_line_text(line), flush=True)

    for line in journal.tail(count):
        show(line)
    if follow:
        for line in journal.follow():
            show(line)


def _token(token_file: Path | None, token_env: str | None) -> str:
    if token_env is not None and token_file is None:
        return secret("--token-env", token_env)
    if token_file is None or token_env is not None:
        raise UsageError("the enrolment token is not given, or twice", hint="use --token-file FILE or --token-env NAME")
    try:
        with token_file.open("rb") as file:
            text = file.read(MAX_TOKEN_BYTES).decode(errors="replace").strip()
    except FileNotFoundError:
        raise NotFound("no such token file", where=token_file) from None
    except OSError as error:
        from wherry.core.durable import map_os_error

        raise map_os_error(error, "cannot read the token", where=token_file) from error
    if not text:
        raise UsageError("the token file is empty", hint=str(token_file))
    return text


def _stop_on_signals(opened: Opened) -> None:
    """Has the agent stop at its next durable step or, when it waits for long, where it is: all is on the disk."""

    def stop(*_: object) -> None:
        opened.attention.request_stop()
        signal.setitimer(signal.ITIMER_REAL, STOP_TIMEOUT_S)

    signal.signal(signal.SIGALRM, lambda *_: os._exit(0))
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, stop)


def _echo(line: Line) -> None:
    note(_line_text(line), quiet=settings().quiet)


def _line_text(line: Line) -> str:
    moment = datetime.fromtimestamp(line.time_s, tz=UTC).strftime("%Y-%m-%d %H:%M:%S")
    revision = f" {line.revision[:12]}" if line.revision else ""
    text = line.text.replace("\n", "\n    ")
    return f"{moment}  {line.event}{revision}: {text}".rstrip(": ")


def _containers(paths: DevicePaths) -> Containers:
    from wherry.device.assembly import open_engine
    from wherry.device.containers import EngineContainers

    return EngineContainers(open_engine(paths, settings().run_root, None))


def _resolve(paths: DevicePaths, text: str) -> Checksum:
    """Returns the revision that a person means: a whole checksum, or the beginning of one that is in the store."""
    from wherry.core.digest import Checksum, is_checksum
    from wherry.device.assembly import open_store

    if is_checksum(text):
        return Checksum(text)
    try:
        return open_store(paths).resolve(text)
    except WherryError as error:
        raise NotFound(
            f"no revision {text!r} in the device's store", where=paths.store, hint="give all 64 digits to ask the hub"
        ) from error


def _do_by_hand(root: Path, make_order: Callable[[State, DevicePaths], Order]) -> None:
    from wherry.device.agent import is_held
    from wherry.device.assembly import open_device
    from wherry.device.identity import load_identity
    from wherry.device.paths import DevicePaths
    from wherry.device.state import load_state

    paths = DevicePaths(root)
    load_identity(paths)
    order = make_order(load_state(paths.state), paths)
    if is_held(paths):
        _ask_agent(paths, order)
        return
    with open_device(root, settings().run_root, echo=_echo) as opened:
        _stop_on_signals(opened)
        opened.agent.run_order(order)
        _judge(opened, changed=True)
    print(order.revision)


def _ask_agent(paths: DevicePaths, order: Order) -> None:
    """Leaves the order to the agent that runs, and waits for what becomes of it."""
    from wherry.device.agent import is_held, write_request
    from wherry.device.attention import wake
    from wherry.device.machine import outcome_of
    from wherry.device.state import load_state
    from wherry.spec.wire import UpdateState

    if paths.request.exists():
        raise Conflict("another order waits for the agent", where=paths.request, hint="try again when it is done")
    write_request(paths, order)
    wake(paths.wake)
    while True:
        time.sleep(_FOLLOW_POLL_S)
        taken = not paths.request.exists()
        state = load_state(paths.state)
        if taken and (state.candidate is None or state.candidate.order != order):
            break
        if taken and state.candidate is not None and state.candidate.phase is UpdateState.FAILED:
            raise WherryError(f"not yet: {state.candidate.reason}", hint="the agent tries again by itself")
        if not is_held(paths):
            raise Conflict("the agent ended meanwhile", where=paths.root, hint="the next `wherry device run` goes on")
    how, reason = outcome_of(state, order)
    if how is UpdateState.ROLLED_BACK:
        raise Unhealthy(_first_line(reason), hint="see `wherry device log`")
    if how is not UpdateState.DONE:
        raise WherryError(f"{how.value}: {_first_line(reason)}", hint="see `wherry device log`")
    print(order.revision)


def _judge(opened: Opened, *, changed: bool) -> None:
    """Raises what a command that did an update ends with."""
    from wherry.spec.wire import UpdateState

    state = opened.agent.state
    error = opened.agent.updater.last_error
    if state.candidate is None and (not changed or state.outcome is None or state.outcome.state is UpdateState.DONE):
        return
    if state.candidate is not None and state.phase is not UpdateState.FAILED:
        note("stopped in the middle of an update; `wherry device run` goes on", quiet=settings().quiet)
        return
    reason = state.candidate.reason if state.candidate is not None else state.outcome.reason if state.outcome else ""
    if state.candidate is None and state.outcome is not None and state.outcome.state is UpdateState.ROLLED_BACK:
        raise Unhealthy(f"rolled back: {_first_line(reason)}", hint="see `wherry device log`")
    if error is not None:
        raise error
    raise WherryError(f"{state.phase.value}: {_first_line(reason)}", hint="see `wherry device log`")


def _first_line(text: str) -> str:
    return text.partition("\n")[0].removesuffix("; it said last:")


def _plain(found: Status) -> dict[str, Any]:
    from dataclasses import asdict

    return asdict(found)


def _print_status(found: Status) -> None:
    print(f"device    {found.name or found.device_id} ({found.device_id})")
    print(f"state     {found.state}, agent {'runs' if found.agent_runs else 'does not run'}")
    print(f"current   {found.current or 'none'}")
    print(f"last-good {found.last_good or 'none'}")
    if found.candidate is not None:
        print(f"candidate {found.candidate.revision} {found.candidate.phase}, attempt {found.candidate.attempt}")
        if found.candidate.reason:
            print(f"          {_first_line(found.candidate.reason)}")
    elif found.outcome is not None and found.outcome.reason:
        print(f"last      {found.outcome.revision[:12]} {found.outcome.state}: {_first_line(found.outcome.reason)}")
    hub = found.hub
    print(f"hub       {hub.url}, last contact {ago(hub.contact_s)}{f', {hub.problem}' if hub.problem else ''}")
    if hub.clock_behind_s:
        print(f"clock     at least {hub.clock_behind_s} s behind the hub's; nothing depends on it")
    disk = found.disk
    print(
        f"disk      {format_size(disk.free_bytes)} of {format_size(disk.total_bytes)} free,"
        f" {format_size(disk.reserve_bytes)} in reserve"
    )
    if found.apps:
        print()
        rows = [
            [app.name, app.state, app.health or "-", str(app.restarts), app.container[:12] or "-", app.image]
            for app in found.apps
        ]
        print_table(["APP", "STATE", "HEALTH", "RESTARTS", "CONTAINER", "IMAGE"], rows)
