"""``wherry network``: networks of containers, with docker's words and flags."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from wherry.cli.context import settings
from wherry.core.errors import UsageError, WherryError

if TYPE_CHECKING:
    from wherry.engine.net.records import Definition
    from wherry.engine.state import Paths


def _paths() -> Paths:
    from wherry.engine.state import Paths

    current = settings()
    return Paths(current.root, current.run_root)


def _made_paths() -> Paths:
    """Returns the engine's places for what changes something there; looking makes none."""
    paths = _paths()
    paths.make()
    return paths


def _pairs(items: tuple[str, ...], what: str) -> dict[str, str]:
    found = {}
    for item in items:
        key, _, value = item.partition("=")
        if not key:
            raise UsageError(f"{what}: not a pair: {item!r}", hint="write it as KEY=VALUE")
        found[key] = value
    return found


@click.group()
def network() -> None:
    """Networks of containers.

    \b
    Examples:
      wherry network create --internal backend
      wherry run -d --name db --network backend postgres:16
      wherry run -d --network backend --network bridge -p 80:80 web
    """


@network.command()
@click.option("-d", "--driver", default="bridge", show_default=True, metavar="NAME", help="bridge or macvlan.")
@click.option("--subnet", multiple=True, metavar="NET", help="Its addresses: 10.1.2.0/24, and fd00:1::/64.")
@click.option("--gateway", multiple=True, metavar="IP", help="The host's address on it (the first).")
@click.option("--ip-range", default="", metavar="NET", help="The part of it that addresses are given out from.")
@click.option("--ipv6", is_flag=True, help="With IPv6; addresses are made up unless --subnet gives them.")
@click.option("--internal", is_flag=True, help="Without a way out.")
@click.option("--attachable", is_flag=True, help="Accepted; every network is.")
@click.option("-o", "--opt", multiple=True, metavar="KEY=VALUE", help="mtu=1400; parent=eth0 of a macvlan ...")
@click.option("--label", multiple=True, metavar="KEY=VALUE", help="Label it.")
@click.argument("name")
def create(name: str, attachable: bool, opt: tuple[str, ...], label: tuple[str, ...], **given: Any) -> None:
    """Make a network and print its id.

    Nothing is made of it in the kernel before a container is on it.

    \b
    Examples:
      wherry network create --subnet 10.1.2.0/24 --ipv6 plant
      wherry network create -d macvlan -o parent=eth0 --subnet 192.168.1.0/24 --ip-range 192.168.1.64/28 lan
    """
    from wherry.engine.net import registry
    from wherry.engine.net.state import NetworkLock
    from wherry.linux.addresses import list_networks
    from wherry.linux.netlink import RouteSocket

    paths = _made_paths()
    options, labels = _pairs(opt, "-o"), _pairs(label, "--label")
    with NetworkLock(paths), RouteSocket() as route:
        made = registry.create(paths, name, options=options, labels=labels, taken=list_networks(route, 2), **given)
    print(made.id)


@network.command("ls")
@click.option("-q", "--quiet", is_flag=True, help="Ids alone.")
@click.option("--no-trunc", is_flag=True, help="Do not shorten ids.")
@click.option("-f", "--filter", "filters", multiple=True, metavar="KEY=VALUE", help="name, driver, label.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def ls(quiet: bool, no_trunc: bool, filters: tuple[str, ...], as_json: bool) -> None:
    """List networks.

    \b
    Examples:
      wherry network ls --filter label=site=plant
    """
    from wherry.cli.output import print_json, print_table
    from wherry.engine.net import registry

    found = [item for item in registry.every(_paths()) if _matches(item, filters)]
    if as_json:
        print_json([_shown(item) for item in found])
        return
    ids = [item.id if no_trunc else item.id[:12] for item in found]
    if quiet:
        print("\n".join(ids))
        return
    rows = [(key, item.name, item.driver, item.subnet) for key, item in zip(ids, found, strict=True)]
    print_table(("NETWORK ID", "NAME", "DRIVER", "SUBNET"), rows)


def _matches(item: Definition, filters: tuple[str, ...]) -> bool:
    for text in filters:
        key, _, value = text.partition("=")
        if key == "name":
            fits = value in item.name
        elif key == "driver":
            fits = value == item.driver
        elif key == "label":
            label, equals, wanted = value.partition("=")
            fits = label in item.labels and (not equals or item.labels[label] == wanted)
        else:
            raise UsageError(f"--filter: key {key!r} is not supported", hint="known are name, driver and label")
        if not fits:
            return False
    return True


def _shown(item: Definition) -> dict[str, Any]:
    return {
        "name": item.name,
        "id": item.id,
        "driver": item.driver,
        "interface": item.bridge or item.parent,
        "subnet": item.subnet,
        "gateway": item.gateway,
        "ip_range": item.ip_range,
        "subnet6": item.subnet6,
        "gateway6": item.gateway6,
        "internal": item.internal,
        "mtu": item.mtu,
        "labels": dict(item.labels),
        "created_s": item.created_s,
    }


@network.command()
@click.option("-f", "--format", "form", metavar="FORMAT", help="json, or a Go template: {{.Driver}}.")
@click.argument("names", nargs=-1, required=True)
def inspect(form: str | None, names: tuple[str, ...]) -> int:
    """Show networks and who is on them, as JSON.

    Docker's keys begin with a capital (Containers); those in lower case are Wherry's own.

    \b
    Examples:
      wherry network inspect -f '{{(index .IPAM.Config 0).Subnet}}' plant
    """
    from wherry.cli.inspecting import inspect_each

    return inspect_each(names, form=form, kind="network")


def document(paths: Paths, item: Definition) -> dict[str, Any]:
    """Returns a network as ``inspect`` prints it: in docker's shape, and our own."""
    from wherry.engine.logwriter import format_time
    from wherry.engine.net.state import LiveNetworks

    value = _shown(item)
    live = LiveNetworks(paths).read(item.name)
    leases = live.leases if live is not None else {}
    if live is not None:
        value.update({key: getattr(live, key) for key in ("subnet", "gateway", "subnet6", "gateway6", "mtu")})
    value["containers"] = {
        key: {"name": lease.names[0], "ip": lease.ip, "ip6": lease.ip6, "mac": lease.mac, "names": lease.names}
        for key, lease in leases.items()
    }
    prefix, prefix6 = (value[key].rpartition("/")[2] for key in ("subnet", "subnet6"))
    pools = ((value["subnet"], item.ip_range, value["gateway"]), (value["subnet6"], "", value["gateway6"]))
    return {
        "Name": item.name,
        "Id": item.id,
        "Created": format_time(item.created_s),
        "Scope": "local",
        "Driver": item.driver,
        "EnableIPv6": bool(value["subnet6"]),
        "IPAM": {
            "Driver": "default",
            "Config": [
                {"Subnet": net, **({"IPRange": part} if part else {}), **({"Gateway": gateway} if gateway else {})}
                for net, part, gateway in pools
                if net
            ],
        },
        "Internal": item.internal,
        "Attachable": True,
        "Containers": {
            key: {
                "Name": lease.names[0],
                "MacAddress": lease.mac,
                "IPv4Address": f"{lease.ip}/{prefix}" if lease.ip else "",
                "IPv6Address": f"{lease.ip6}/{prefix6}" if lease.ip6 else "",
            }
            for key, lease in leases.items()
        },
        "Labels": dict(item.labels),
        **value,
    }


@network.command()
@click.option("-f", "--force", is_flag=True, help="That there is none is no error.")
@click.argument("names", nargs=-1, required=True)
def rm(force: bool, names: tuple[str, ...]) -> int:
    """Remove networks that no container is on.

    \b
    Examples:
      wherry network rm backend
    """
    from wherry.core.errors import NotFound
    from wherry.engine.net import connections

    paths = _made_paths()
    status = 0
    for name in names:
        try:
            connections.remove(paths, name)
        except WherryError as error:
            if isinstance(error, NotFound) and force:
                continue
            if settings().debug:
                raise
            print(f"wherry: {error}", file=sys.stderr)
            status = error.exit_code
        else:
            print(name)
    return status


@network.command()
@click.option("-f", "--force", is_flag=True, help="Do not ask.")
@click.option("--filter", "filters", multiple=True, metavar="KEY=VALUE", help="until=TIME, label=KEY[=VALUE].")
def prune(force: bool, filters: tuple[str, ...]) -> None:
    """Remove every network that no container is on.

    \b
    Examples:
      wherry network prune -f --filter until=24h
    """
    from wherry.cli.system import confirm
    from wherry.engine import pruning

    wanted = pruning.Filters.parse(filters)
    confirm("This removes all networks that no container is on.", force=force)
    for name in pruning.prune_networks(_made_paths(), wanted).names:
        print(name)


@network.command()
@click.option("--alias", multiple=True, metavar="NAME", help="A further name for the others on it.")
@click.option("--ip", default="", metavar="IP", help="Its IPv4 address.")
@click.option("--ip6", default="", metavar="IP", help="Its IPv6 address.")
@click.argument("name", metavar="NETWORK")
@click.argument("container")
def connect(alias: tuple[str, ...], ip: str, ip6: str, name: str, container: str) -> None:
    """Put a container on one more network, at once if it runs.

    \b
    Examples:
      wherry network connect --alias db backend postgres
    """
    from wherry.engine.net import connections, registry
    from wherry.engine.net.request import NetworkAttachment

    paths = _made_paths()
    found = registry.find(paths, name).name
    connections.connect(paths, container, NetworkAttachment(network=found, aliases=alias, ip=ip, ip6=ip6))


@network.command()
@click.option("-f", "--force", is_flag=True, help="Accepted; nothing is asked.")
@click.argument("name", metavar="NETWORK")
@click.argument("container")
def disconnect(force: bool, name: str, container: str) -> None:
    """Take a container off a network, at once if it runs.

    \b
    Examples:
      wherry network disconnect backend postgres
    """
    from wherry.engine.net import connections

    connections.disconnect(_made_paths(), container, name)
