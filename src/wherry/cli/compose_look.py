"""``wherry compose ps``, ``logs`` and what else only looks at containers."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import click

from wherry.cli.compose_context import chosen_members, engine_of, load_project, one_member
from wherry.cli.output import print_json, print_table
from wherry.core.errors import UsageError

if TYPE_CHECKING:
    from wherry.engine.compose.project import Member

PS_HEAD = ("NAME", "IMAGE", "COMMAND", "SERVICE", "CREATED", "STATUS", "PORTS")
STATUSES = ("created", "running", "paused", "restarting", "exited")
_SERVICES = click.argument("services", nargs=-1)


@click.command()
@click.option("-a", "--all", "everything", is_flag=True, help="Those that do not run, too; and those of `run`.")
@click.option("-q", "--quiet", is_flag=True, help="Ids alone.")
@click.option("--services", "only_services", is_flag=True, help="Names of services.")
@click.option("--status", "statuses", multiple=True, type=click.Choice(STATUSES), help="Those with this status.")
@click.option("--filter", "filters", multiple=True, metavar="status=STATUS", help="The same.")
@click.option("--orphans/--no-orphans", default=True, help="Those of no service, too.")
@click.option("--no-trunc", is_flag=True, help="Do not shorten anything.")
@click.option("--format", "form", default="table", metavar="FORMAT", help="table, json, or a Go template.")
@click.option("--json", "form", flag_value="json", help="The same as --format json.")
@_SERVICES
def ps(services: tuple[str, ...], **given: Any) -> None:
    """List the containers of a project.

    \b
    Examples:
      wherry compose ps -a
      wherry compose ps --format json
      wherry compose ps --services --status running
    """
    from wherry.cli import container_list as show

    statuses = list(given["statuses"])
    for item in given["filters"]:
        key, _, word = item.partition("=")
        if key != "status" or word not in STATUSES:
            raise UsageError(f"--filter: {item!r}", hint=f"use status= and one of {', '.join(STATUSES)}")
        statuses.append(word)
    engine = engine_of()
    _, found = chosen_members(engine, services, one_off=None if given["everything"] else False)
    if statuses:
        found = [member for member in found if member.info.status in statuses]
    elif not given["everything"]:
        found = [member for member in found if member.runs]
    if not given["orphans"]:
        known = {*load_project().services}
        found = [member for member in found if member.service in known]
    if given["quiet"]:
        for member in found:
            print(member.info.id)
    elif given["only_services"]:
        for name in dict.fromkeys(member.service for member in found):
            print(name)
    elif given["form"] == "json":
        import json

        for member in found:
            print(json.dumps(_shown(member)))
    elif given["form"] == "table":
        rows = []
        for member in found:
            cells = show.row(member.info, truncate=not given["no_trunc"])
            rows.append((member.info.name, cells[1], cells[2], member.service, *cells[3:6]))
        print_table(PS_HEAD, rows, shrink=(2, 1, 6, 4))
    else:
        from wherry.cli.template import print_rows

        print_rows(given["form"], [_shown(member) for member in found], {})


def _shown(member: Member) -> dict[str, Any]:
    """Returns what ``ps --format json`` says of a container, by docker compose's keys."""
    from wherry.cli import container_list as show
    from wherry.cli.docker_shape import running_for, span

    info = member.info
    return {
        "ID": info.id,
        "Name": info.name,
        "Names": info.name,
        "Image": show.short_image(info.image),
        "Command": f'"{" ".join(info.command)}"',
        "Project": info.labels.get("com.docker.compose.project", ""),
        "Service": member.service,
        "CreatedAt": time.strftime("%Y-%m-%d %H:%M:%S %z", time.localtime(info.created_s)),
        "RunningFor": running_for(info),
        "State": info.status,
        "Status": show.status_text(info, span),
        "Health": info.health,
        "ExitCode": info.exit_code or 0,
        "Ports": show.ports_text(info.ports) if info.pid else "",
        "Publishers": [
            {
                "URL": port.host_ip,
                "TargetPort": port.container_port,
                "PublishedPort": port.host_port,
                "Protocol": port.protocol,
            }
            for port in (info.ports if info.pid else ())
        ],
        "Labels": ",".join(f"{key}={value}" for key, value in sorted(info.labels.items())),
    }


@click.command()
@click.option("-f", "--follow", is_flag=True, help="Wait for more until all have ended.")
@click.option("-n", "--tail", default="all", metavar="N", help="Only the last N lines of each.")
@click.option("--since", metavar="TIME", help="Only what is newer: 10m, or 2026-01-31T12:00:00Z.")
@click.option("--until", metavar="TIME", help="Only what is older.")
@click.option("-t", "--timestamps", is_flag=True, help="Put the time before each line.")
@click.option("--no-color", is_flag=True, help="No colours.")
@click.option("--no-log-prefix", is_flag=True, help="No name before a line.")
@click.option("--index", type=click.IntRange(1), metavar="N", help="The container with this number.")
@_SERVICES
def logs(services: tuple[str, ...], **given: Any) -> None:
    """Show what the containers of a project printed.

    \b
    Examples:
      wherry compose logs -f --tail 20 web
      wherry compose logs --since 10m --no-log-prefix
    """
    from wherry.cli.compose_output import Lines, label_of
    from wherry.cli.container_options import parse_since
    from wherry.engine.compose.following import Ended, Following, in_order

    tail = given["tail"]
    if tail != "all" and not tail.isdigit():
        raise UsageError(f"--tail: not a number: {tail!r}", hint="write a number, or all")
    last = None if tail == "all" else int(tail)
    now_s = time.time()
    since_s = parse_since(given["since"], now_s) if given["since"] else None
    until_s = parse_since(given["until"], now_s) if given["until"] else None
    engine = engine_of()
    _, found = chosen_members(engine, services)
    if given["index"]:
        found = [member for member in found if member.number == given["index"]]
    lines = Lines(
        [label_of(member.info) for member in found],
        colour=False if given["no_color"] else None,
        prefix=not given["no_log_prefix"],
        timestamps=given["timestamps"],
    )

    def show(info: Any, entry: Any) -> None:
        if until_s is None or entry.time_s <= until_s:
            lines.show(info, entry)

    if not given["follow"] or (until_s is not None and until_s <= now_s):
        in_order(engine, found, tail=last, since_s=since_s, show=show)
        return
    following = Following(engine, show, since_s=since_s)
    for member in found:
        following.add(member.info, tail=last)
    while following.alive:
        news = following.news.get()
        if isinstance(news, Ended):
            following.ended(news.info)


@click.command()
@click.option("-q", "--quiet", is_flag=True, help="Commits alone.")
@click.option("--format", "form", type=click.Choice(["table", "json"]), default="table", help="How it is printed.")
@_SERVICES
def images(services: tuple[str, ...], quiet: bool, form: str) -> None:
    """List the images that a project's containers are of."""
    from wherry.cli.container_list import short_image

    _, found = chosen_members(engine_of(), services)
    if quiet:
        for commit in dict.fromkeys(member.info.commit for member in found):
            print(commit)
    elif form == "json":
        print_json([{"container": m.info.name, "image": m.info.image, "commit": m.info.commit} for m in found])
    else:
        rows = [(m.info.name, short_image(m.info.image), m.info.commit[:12]) for m in found]
        print_table(("CONTAINER", "IMAGE", "COMMIT"), rows)


@click.command()
@_SERVICES
def top(services: tuple[str, ...]) -> None:
    """Show the processes of a project's containers."""
    from wherry.engine import processes

    engine = engine_of()
    _, found = chosen_members(engine, services)
    for member in found:
        if member.info.pid:
            print(member.info.name)
            rows = [processes.row(one) for one in processes.list_processes(engine.paths, member.info)]
            print_table(processes.HEAD, rows, shrink=len(processes.HEAD) - 1)
            print()


@click.command()
@click.option("--index", type=click.IntRange(1), metavar="N", help="The container with this number.")
@click.option("--protocol", type=click.Choice(["tcp", "udp"]), default="tcp", help="Of the port.")
@click.argument("service")
@click.argument("wanted", metavar="PRIVATE_PORT", type=click.IntRange(1, 65535))
def port(service: str, wanted: int, index: int | None, protocol: str) -> None:
    """Show where a port of a service is published."""
    from wherry.core.errors import NotFound

    info = one_member(engine_of(), service, index).info
    for item in info.ports if info.pid else ():
        if (item.container_port, item.protocol) == (wanted, protocol):
            print(f"[{item.host_ip}]:{item.host_port}" if ":" in item.host_ip else f"{item.host_ip}:{item.host_port}")
            return
    raise NotFound(f"no port {wanted}/{protocol} of {info.name} is published")


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON, one line for each.")
@click.option("--since", metavar="TIME", help="Those from then on: 10m, or 2026-01-31T12:00:00Z.")
@click.option("--until", metavar="TIME", help="Until then.")
@_SERVICES
def events(services: tuple[str, ...], as_json: bool, since: str | None, until: str | None) -> None:
    """Show what happens to a project's containers, as it happens."""
    import json

    from wherry.cli.compose_context import project_or_name
    from wherry.cli.container_options import parse_since
    from wherry.engine import events as happened
    from wherry.engine.compose import labels

    engine = engine_of()
    name, _ = project_or_name(services)
    now_s = time.time()
    for event in happened.read(
        engine.paths,
        since_s=parse_since(since, now_s) if since else None,
        until_s=parse_since(until, now_s) if until else None,
        filters={"type": ["container"], "label": [f"{labels.PROJECT}={name}"]},
    ):
        attributes = event["Actor"]["Attributes"]
        service = attributes.get(labels.SERVICE, "")
        if services and service not in services:
            continue
        when = time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(event["time"]))
        if as_json:
            shown = {"time": when, "type": "container", "action": event["Action"], "id": event["Actor"]["ID"]}
            print(json.dumps({**shown, "service": service, "attributes": attributes}), flush=True)
        else:
            print(
                f"{when} container {event['Action']} {event['Actor']['ID'][:12]} ({attributes.get('name', '')})",
                flush=True,
            )


@click.command()
@click.option("-a", "--all", "everything", is_flag=True, help="Those that do not run, too.")
@click.option("-q", "--quiet", is_flag=True, help="Names alone.")
@click.option("--format", "form", type=click.Choice(["table", "json"]), default="table", help="How it is printed.")
@click.option("--json", "form", flag_value="json", help="The same as --format json.")
def ls(everything: bool, quiet: bool, form: str) -> None:
    """List the projects of this machine."""
    from wherry.engine.compose import labels
    from wherry.engine.compose.project import projects

    rows = []
    for name, found in projects(engine_of()).items():
        shown = found if everything else [member for member in found if member.runs]
        if not shown:
            continue
        counts: dict[str, int] = {}
        for member in shown:
            counts[member.info.status] = counts.get(member.info.status, 0) + 1
        status = ", ".join(f"{status}({count})" for status, count in sorted(counts.items()))
        rows.append((name, status, shown[0].info.labels.get(labels.FILES, "")))
    if quiet:
        for row in rows:
            print(row[0])
    elif form == "json":
        print_json([{"Name": row[0], "Status": row[1], "ConfigFiles": row[2]} for row in rows])
    else:
        print_table(("NAME", "STATUS", "CONFIG FILES"), rows)


@click.command()
@click.option(
    "-f", "--format", "form", type=click.Choice(["pretty", "json"]), default="pretty", help="How it is printed."
)
@click.option("--short", is_flag=True, help="The number alone.")
def version(form: str, short: bool) -> None:
    """Show the version of Wherry."""
    from wherry.version import __version__

    if short:
        print(__version__)
    elif form == "json":
        print_json({"version": __version__})
    else:
        print(f"Wherry Compose version {__version__}")


@click.command()
@click.option("--down-project", is_flag=True, help="Take the project away when the first has ended.")
@click.argument("services", nargs=-1, required=True)
def wait(services: tuple[str, ...], down_project: bool) -> int:
    """Wait until containers of services have ended, and print their exit statuses; ends with the last one's."""
    from wherry.cli.compose_context import teller
    from wherry.core.errors import NotFound

    engine = engine_of()
    name, found = chosen_members(engine, services)
    if not found:
        raise NotFound(f"no containers of {', '.join(services)}", hint="`wherry compose up -d` starts them")
    code = 0
    for member in found:
        code = engine.wait(member.info.id)
        print(code, flush=True)
    if down_project:
        from wherry.engine.compose.down import down
        from wherry.engine.compose.project import lock

        with lock(engine.paths, name):
            down(engine, name, teller())
    return code
