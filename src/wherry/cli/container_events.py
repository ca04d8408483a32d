"""``wherry events``: what happens, as it happens."""

from __future__ import annotations

import time
from typing import Any

import click

from wherry.cli.container_run import open_engine
from wherry.cli.context import settings
from wherry.cli.failing import until_interrupted

FILTERS = ("container", "event", "image", "label", "network", "scope", "secret", "type", "volume")


@click.command()
@click.option("--since", metavar="TIME", help="From then on: 10m, or 2026-01-31T12:00:00Z.")
@click.option("--until", metavar="TIME", help="Until then, and no longer.")
@click.option("-f", "--filter", "filters", multiple=True, metavar="KEY=VALUE", help=f"{', '.join(FILTERS)}.")
@click.option("--format", "form", metavar="FORMAT", help="json, or a Go template: {{.Action}}.")
@click.option("--json", "as_json", is_flag=True, help="Print a line of JSON for each.")
def events(since: str | None, until: str | None, filters: tuple[str, ...], form: str | None, as_json: bool) -> int:
    """Show what happens to containers, images, volumes and networks.

    \b
    Examples:
      wherry events
      wherry events --since 1h --until 0s --filter event=die
      wherry events --filter container=web --format '{{.Time}} {{.Action}}'
    """
    import json

    from wherry.cli.container_options import parse_since
    from wherry.cli.template import Template
    from wherry.core.errors import UsageError
    from wherry.engine.events import read

    wanted: dict[str, list[str]] = {}
    for item in filters:
        key, equals, value = item.partition("=")
        if not equals or key not in FILTERS:
            raise UsageError(f"--filter: {item!r} is not supported", hint=f"use KEY=VALUE with {', '.join(FILTERS)}")
        wanted.setdefault(key, []).append(value)
    as_json = as_json or form == "json"
    template = Template(form) if form and not as_json else None
    now_s = time.time()
    engine = open_engine(settings())

    def show() -> None:
        for event in read(
            engine.paths,
            since_s=parse_since(since, now_s) if since else None,
            until_s=parse_since(until, now_s) if until else None,
            filters=wanted,
        ):
            if as_json:
                text = json.dumps(event, ensure_ascii=False, separators=(",", ":"))
            elif template is not None:
                text = template.render(with_docker_names(event))
            else:
                text = line(event)
            print(text, flush=True)

    return until_interrupted(show)


def line(event: dict[str, Any]) -> str:
    """Returns an event as docker prints it: ``TIME container start ID (image=..., name=...)``."""
    from datetime import datetime

    nanoseconds = int(event["timeNano"])
    moment = datetime.fromtimestamp(nanoseconds // 1_000_000_000).astimezone()
    zone = moment.strftime("%z")
    stamp = f"{moment:%Y-%m-%dT%H:%M:%S}.{nanoseconds % 1_000_000_000:09d}{zone[:3]}:{zone[3:]}"
    actor = event.get("Actor", {})
    attributes = ", ".join(f"{key}={value}" for key, value in sorted(actor.get("Attributes", {}).items()))
    end = f" ({attributes})" if attributes else ""
    text = f"{stamp} {event['Type']} {event['Action']} {actor.get('ID', '')}{end}"
    # a label may hold anything, and this goes to a terminal
    return "".join(char if char.isprintable() else "?" for char in text)


def with_docker_names(event: dict[str, Any]) -> dict[str, Any]:
    """Returns an event with the names that templates use: ``.ID``, ``.Time`` beside docker's JSON."""
    return {
        "ID": event.get("Actor", {}).get("ID", ""),
        "Status": event.get("Action", ""),
        "From": event.get("from", ""),
        "Scope": event.get("scope", ""),
        "Time": event.get("time", 0),
        "TimeNano": event.get("timeNano", 0),
        **event,
    }
