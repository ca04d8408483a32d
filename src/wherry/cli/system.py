"""``wherry system``: what the engine holds on this machine, and giving it back; docker's words and flags."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

import click

from wherry.cli.container_run import open_engine
from wherry.cli.context import settings
from wherry.cli.output import ago, print_json, print_table
from wherry.core.errors import UsageError
from wherry.core.units import format_size

if TYPE_CHECKING:
    from collections.abc import Mapping

    from wherry.engine.engine import Engine
    from wherry.engine.pruning import Removed


@click.group()
def system() -> None:
    """The engine: its disk use, its state, and what can go.

    \b
    Examples:
      wherry system df
      wherry system prune
      wherry system info
    """


def confirm(text: str, *, force: bool) -> None:
    """Asks whether to go on, as docker does; without a terminal nothing is assumed.

    Raises:
        UsageError: nobody can be asked.
    """
    if force:
        return
    if not sys.stdin.isatty():
        raise UsageError("nothing was removed: standard input is no terminal to ask at", hint="give --force (-f)")
    print(f"WARNING! {text}", file=sys.stderr)
    if not click.confirm("Are you sure you want to continue?", default=False, err=True):
        raise click.exceptions.Exit(0)


def print_removed(done: Mapping[str, Removed], *, as_json: bool) -> None:
    """Prints what went, and how many bytes that freed."""
    freed = sum(item.freed_bytes for item in done.values())
    if as_json:
        print_json({**{key: list(item.names) for key, item in done.items()}, "freed_bytes": freed})
        return
    for key, item in done.items():
        if item.names:
            print(f"Deleted {key.capitalize()}:")
            print("\n".join(item.names))
            print()
    print(f"Total reclaimed space: {format_size(freed)}")


@system.command()
@click.option("-v", "--verbose", is_flag=True, help="Each image, container and volume.")
@click.option("--format", "form", metavar="FORMAT", help="json, or a Go template: {{.Type}} {{.Size}}.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, with bytes as numbers.")
def df(verbose: bool, form: str | None, as_json: bool) -> None:
    """Show what images, containers, volumes and the build cache take on the disk.

    \b
    Examples:
      wherry system df
      wherry system df -v
    """
    engine = open_engine(settings(), with_store=True)
    found = disk_usage(engine)
    if as_json:
        print_json(found)
        return
    rows = [_summary(found, key) for key in ("Images", "Containers", "Volumes", "BuildCache")]
    if form:
        from wherry.cli.template import print_rows

        print_rows(form, rows, {"TotalCount": "TOTAL"})
    elif verbose:
        _print_verbose(found)
    else:
        head = ("TYPE", "TOTAL", "ACTIVE", "SIZE", "RECLAIMABLE")
        print_table(head, [tuple(str(value) for value in row.values()) for row in rows])


def disk_usage(engine: Engine) -> dict[str, Any]:
    """Returns what each image, container, volume and part of the build cache takes, in bytes."""
    from wherry.engine import volumes
    from wherry.engine.build import keeping
    from wherry.engine.disk import tree_bytes, unique_bytes, written_bytes
    from wherry.image.catalog import Images

    containers = engine.list()
    used = [info.commit for info in containers]
    images, total = [], 0
    if engine.repo is not None:
        records = Images(engine.repo).list()
        sizes, total = unique_bytes(engine.repo, [record.commit for record in records])
        for record in records:
            shared, own = sizes[record.commit]
            images.append(
                {
                    "name": record.reference.familiar,
                    "id": record.identifier,
                    "commit": record.commit,
                    "digest": record.digest,
                    "created_s": record.created_s,
                    "size_bytes": shared + own,
                    "shared_bytes": shared,
                    "unique_bytes": own,
                    "containers": used.count(record.commit),
                }
            )
    users = volumes.users_of(engine.paths)
    cached, cached_bytes = keeping.usage(engine)
    return {
        "ImagesBytes": total,
        "Images": images,
        "Containers": [
            {
                "id": info.id,
                "name": info.name,
                "image": info.image,
                "status": info.status,
                "created_s": info.created_s,
                "size_bytes": written_bytes(engine.paths, info.id),
                "local_volumes": sum(1 for item in info.config.mounts if item.type == "volume"),
            }
            for info in containers
        ],
        "Volumes": [
            {
                "name": name,
                "links": len(users.get(name, ())),
                "size_bytes": tree_bytes(f"{engine.paths.volumes}/{name}/data"),
            }
            for name in engine.list_volumes()
        ],
        "BuildCacheBytes": cached_bytes,
        "BuildCache": [
            {"id": item.name, "type": item.kind, "description": item.description, "size_bytes": item.size_bytes}
            for item in cached
        ],
    }


def _summary(found: Mapping[str, Any], key: str) -> dict[str, Any]:
    items = found[key]
    if key == "Images":
        used = {(item["id"], item["digest"]) for item in items if item["containers"]}
        own = {(item["id"], item["digest"]): item["unique_bytes"] for item in items}
        size = found["ImagesBytes"]
        active = [item for item in items if item["containers"]]
        free = sum(unique for image, unique in own.items() if image not in used)
    elif key == "Containers":
        active = [item for item in items if item["status"] not in ("created", "exited")]
        size = sum(item["size_bytes"] for item in items)
        free = size - sum(item["size_bytes"] for item in active)
    elif key == "BuildCache":
        active, size = [], found["BuildCacheBytes"]
        free = size
    else:
        active = [item for item in items if item["links"]]
        size = sum(item["size_bytes"] for item in items)
        free = size - sum(item["size_bytes"] for item in active)
    percent = f" ({100 * free // size}%)" if size else ""
    return {
        "Type": {"Volumes": "Local Volumes", "BuildCache": "Build Cache"}.get(key, key),
        "TotalCount": len(items),
        "Active": len(active),
        "Size": format_size(size),
        "Reclaimable": f"{format_size(free)}{percent}",
    }


def _print_verbose(found: Mapping[str, Any]) -> None:
    print("Images space usage:\n")
    print_table(
        ("IMAGE", "CREATED", "SIZE", "SHARED SIZE", "UNIQUE SIZE", "CONTAINERS"),
        [
            (
                item["name"],
                ago(item["created_s"] or None),
                format_size(item["size_bytes"]),
                format_size(item["shared_bytes"]),
                format_size(item["unique_bytes"]),
                str(item["containers"]),
            )
            for item in found["Images"]
        ],
        shrink=0,
    )
    print("\nContainers space usage:\n")
    print_table(
        ("CONTAINER ID", "IMAGE", "LOCAL VOLUMES", "SIZE", "STATUS", "NAMES"),
        [
            (
                item["id"][:12],
                item["image"].removeprefix("docker.io/").removeprefix("library/"),
                str(item["local_volumes"]),
                format_size(item["size_bytes"]),
                item["status"],
                item["name"],
            )
            for item in found["Containers"]
        ],
        shrink=1,
    )
    print("\nLocal Volumes space usage:\n")
    print_table(
        ("VOLUME NAME", "LINKS", "SIZE"),
        [(item["name"], str(item["links"]), format_size(item["size_bytes"])) for item in found["Volumes"]],
        shrink=0,
    )
    print(f"\nBuild cache usage: {format_size(found['BuildCacheBytes'])}\n")
    print_table(
        ("CACHE ID", "CACHE TYPE", "SIZE", "STEP"),
        [
            (item["id"][:12], item["type"], format_size(item["size_bytes"]), item["description"])
            for item in found["BuildCache"]
        ],
        shrink=3,
    )


@system.command()
@click.option("-a", "--all", "everything", is_flag=True, help="All images that no container is made from.")
@click.option("--volumes", "with_volumes", is_flag=True, help="Anonymous volumes that no container has, too.")
@click.option("-f", "--force", is_flag=True, help="Do not ask.")
@click.option("--filter", "filters", multiple=True, metavar="KEY=VALUE", help="until=TIME, label=KEY[=VALUE].")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def prune(everything: bool, with_volumes: bool, force: bool, filters: tuple[str, ...], as_json: bool) -> None:
    """Remove what is not used: containers that do not run, networks without any, and files that no image needs.

    With --all also images without containers, and the build cache.

    \b
    Examples:
      wherry system prune
      wherry system prune -af --volumes --filter until=24h
    """
    from wherry.engine import pruning

    wanted = pruning.Filters.parse(filters)
    if with_volumes and wanted.until_s is not None:
        raise UsageError("--filter until= goes with no --volumes")
    goes = ["containers that do not run", "networks that no container is on", "images without a name"]
    if everything:
        goes[2] = "images that no container is made from"
        goes.append("steps that builds have kept")
    if with_volumes:
        goes.append("anonymous volumes that no container has")
    confirm(f"This removes all {', all '.join(goes)}.", force=force)
    engine = open_engine(settings(), with_store=True)
    done = {"containers": pruning.prune_containers(engine, wanted)}
    if with_volumes:
        done["volumes"] = pruning.prune_volumes(engine, wanted)
    done["networks"] = pruning.prune_networks(engine.paths, wanted)
    done["images"] = pruning.prune_images(engine, wanted, everything=everything)
    if everything and not filters:
        from wherry.engine.build import keeping

        done["build steps"] = keeping.prune(engine)
    print_removed(done, as_json=as_json)


@system.command()
@click.option("-f", "--format", "form", metavar="FORMAT", help="json, or a Go template: {{.ServerVersion}}.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def info(form: str | None, as_json: bool) -> None:
    """Show the engine's state, and what this machine is.

    \b
    Examples:
      wherry system info
      wherry system info -f '{{.ContainersRunning}}'
    """
    found = system_info(open_engine(settings(), with_store=True))
    if as_json or form == "json":
        print_json(found)
    elif form:
        from wherry.cli.template import Template

        print(Template(form).render(found))
    else:
        for key, value in found.items():
            print(f"{key}: {value}")


def system_info(engine: Engine) -> dict[str, Any]:
    """Returns docker's fields of ``info``, as far as they mean something here."""
    from wherry.image.catalog import Images
    from wherry.version import __version__

    statuses = [item.status for item in engine.list()]
    machine = os.uname()
    return {
        "Containers": len(statuses),
        "ContainersRunning": statuses.count("running") + statuses.count("restarting"),
        "ContainersPaused": statuses.count("paused"),
        "ContainersStopped": statuses.count("exited") + statuses.count("created"),
        "Images": len(Images(engine.repo).list()) if engine.repo is not None else 0,
        "Driver": "overlay",
        "LoggingDriver": "json-file",
        "CgroupDriver": "cgroupfs",
        "CgroupVersion": _cgroup_version(),
        "KernelVersion": machine.release,
        "OperatingSystem": _operating_system(),
        "OSType": "linux",
        "Architecture": machine.machine,
        "NCPU": os.cpu_count() or 1,
        "MemTotal": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "Name": machine.nodename,
        "DockerRootDir": str(engine.paths.root),
        "RunRootDir": str(engine.paths.run),
        "ServerVersion": __version__,
    }


@system.command()
def supervisor() -> None:
    """Be the supervisor of detached containers, and stay: for an init system.

    Without it the first detached container starts one, which ends with the last.

    \b
    Examples:
      wherry system supervisor
    """
    from wherry.engine.calling import run_supervisor_here

    run_supervisor_here(open_engine(settings()).paths, notify=os.environ.get("NOTIFY_SOCKET", ""))


@system.command()
def boot() -> int:
    """Start the containers that are to run after a boot, by their restart policies: for an init system.

    \b
    Examples:
      wherry system boot
    """
    failed = open_engine(settings(), with_store=True).start_all_wanted()
    for text in failed:
        print(f"wherry: {text}", file=sys.stderr)
    return 1 if failed else 0


def _cgroup_version() -> str:
    return "2" if os.path.exists("/sys/fs/cgroup/cgroup.controllers") else "1"


def _operating_system() -> str:
    import platform

    try:
        return platform.freedesktop_os_release().get("PRETTY_NAME", "")
    except OSError:
        return ""
