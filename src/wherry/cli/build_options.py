"""What the options of ``wherry build`` mean: docker's words, as values. The environment is read here."""

from __future__ import annotations

import csv
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from wherry.cli import container_options as parse
from wherry.cli.container_network_options import parse_add_host
from wherry.core.errors import InvalidInput, NotFound, UsageError
from wherry.core.units import parse_size
from wherry.engine.build.contexts import IMAGE_SCHEME
from wherry.engine.build.mounts import Secret
from wherry.engine.build.output import STDOUT, Kind, Output
from wherry.engine.spec import ContainerSpec
from wherry.image.reference import Reference
from wherry.spec.container import Resources

_MAX_EPOCH_S = 253402300799
"""The end of the year 9999: RFC 3339 has no later one."""
_FILES = (Kind.TAR, Kind.OCI, Kind.DOCKER)


def limit_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds the options for what every container of RUN gets; `template` reads them."""
    for option in (
        click.option("--network", "network", default="default", metavar="default|none|host", help="Of RUN."),
        click.option("--add-host", "add_hosts", multiple=True, metavar="HOST:IP", help="A line of RUN's /etc/hosts."),
        click.option("-m", "--memory", default="", metavar="SIZE", help="The most memory that a RUN may use."),
        click.option("--memory-swap", default="", metavar="SIZE", help="With swap; -1 is without limit."),
        click.option("-c", "--cpu-shares", default="", metavar="N", help="Weight of a RUN's CPU time."),
        click.option("--cpu-period", default="", metavar="US", help="Period of the CPU quota, in microseconds."),
        click.option("--cpu-quota", default="", metavar="US", help="CPU time in each period."),
        click.option("--cpuset-cpus", default="", metavar="LIST", help="Processors: 0-2,4."),
        click.option("--cpuset-mems", default="", metavar="LIST", help="Memory nodes: 0,1."),
        click.option("--shm-size", default="", metavar="SIZE", help="The size of /dev/shm (64m)."),
        click.option("--ulimit", "ulimits", multiple=True, metavar="NAME=SOFT[:HARD]", help="A limit: nofile=1024."),
        click.option("--cgroup-parent", default="", metavar="PATH", help="The cgroup above those of RUN."),
    ):
        command = option(command)
    return command


NO_LIMITS: Mapping[str, Any] = {
    "network": "default",
    "add_hosts": (),
    "ulimits": (),
    **dict.fromkeys(
        ("memory", "memory_swap", "cpu_shares", "cpu_period", "cpu_quota", "cpuset_cpus", "cpuset_mems"), ""
    ),
    "shm_size": "",
    "cgroup_parent": "",
}
"""What `template` reads when none of the options was given."""


def template(given: Mapping[str, Any]) -> ContainerSpec:
    """Returns what every container of RUN gets.

    Raises:
        UsageError: a value is not what its option takes.
    """
    if given["network"] not in ("default", "none", "host", "bridge"):
        raise UsageError(f"--network: {given['network']!r}", hint="a build has default, none or host")

    def number(key: str, least: int = 0) -> int | None:
        return parse.whole(given[key], f"--{key.replace('_', '-')}", least=least) if given[key] else None

    def size(key: str) -> int | None:
        return parse_size(given[key], where=f"--{key.replace('_', '-')}") if given[key] else None

    return ContainerSpec(
        network="bridge" if given["network"] == "default" else given["network"],
        add_hosts=tuple(map(parse_add_host, given["add_hosts"])),
        resources=Resources(
            memory_bytes=size("memory"),
            memory_swap_bytes=-1 if given["memory_swap"] == "-1" else size("memory_swap"),
            cpu_shares=number("cpu_shares"),
            cpu_period_us=number("cpu_period"),
            cpu_quota_us=number("cpu_quota", -1),
            cpuset_cpus=given["cpuset_cpus"],
            cpuset_mems=given["cpuset_mems"],
        ),
        shm_bytes=size("shm_size"),
        ulimits=tuple(map(parse.parse_ulimit, given["ulimits"])),
        cgroup_parent=given["cgroup_parent"],
    )


def build_args(texts: Sequence[str]) -> dict[str, str]:
    """Returns build arguments: ``NAME=VALUE``, or NAME with the value that it has in the environment."""
    found = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not name:
            raise UsageError(f"--build-arg: NAME=VALUE expected, got {text!r}")
        if equals:
            found[name] = value
        elif name in os.environ:
            found[name] = os.environ[name]
    if "SOURCE_DATE_EPOCH" in os.environ:
        found.setdefault("SOURCE_DATE_EPOCH", os.environ["SOURCE_DATE_EPOCH"])
    return found


def cache_from(texts: Sequence[str]) -> tuple[Reference, ...]:
    """Returns the images whose layers may spare steps: ``IMAGE``, or ``type=registry,ref=IMAGE``.

    Raises:
        UsageError: it is another kind of cache.
    """
    found = []
    for text in texts:
        words = dict(pair(word, "--cache-from") for word in text.split(",")) if "=" in text else {"ref": text}
        kind, name = words.pop("type", "registry"), words.pop("ref", "")
        if kind != "registry" or not name or words:
            hint = "name an image that was built with --cache-to type=inline"
            raise UsageError("--cache-from: IMAGE or type=registry,ref=IMAGE expected", where=text, hint=hint)
        found.append(Reference.parse(name))
    return tuple(found)


def inline_cache(texts: Sequence[str], args: Mapping[str, str]) -> bool:
    """Tells whether the image says which steps its layers came of: ``type=inline``, or docker's build argument.

    Raises:
        UsageError: it is another kind of cache.
    """
    for text in texts:
        if text != "type=inline":
            hint = "what a build needs again is in the store; type=inline tells it in the image"
            raise UsageError("--cache-to: only type=inline is there", where=text, hint=hint)
    return bool(texts) or args.get("BUILDKIT_INLINE_CACHE", "") == "1"


def created(args: Mapping[str, str]) -> str:
    """Returns what SOURCE_DATE_EPOCH says as RFC 3339; "" when it says nothing.

    Raises:
        InvalidInput: it is no time.
    """
    import time

    text = args.get("SOURCE_DATE_EPOCH", "")
    if not text:
        return ""
    if not (text.isascii() and text.isdigit()) or int(text) > _MAX_EPOCH_S:
        raise InvalidInput(f"SOURCE_DATE_EPOCH is a number of seconds, got {text[:40]!r}")
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(int(text)))


def pair(text: str, option: str) -> tuple[str, str]:
    """Returns ``NAME=VALUE``."""
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise UsageError(f"{option}: NAME=VALUE expected, got {text!r}")
    return name, value


def labels(texts: Sequence[str]) -> dict[str, str]:
    """Returns labels: ``NAME=VALUE``, or NAME, whose value is empty then."""
    return parse.parse_labels(texts)


def named_contexts(texts: Sequence[str]) -> tuple[dict[str, str], dict[str, Reference]]:
    """Returns the named contexts that are files, and those that are images."""
    files: dict[str, str] = {}
    images: dict[str, Reference] = {}
    for text in texts:
        name, value = pair(text, "--build-context")
        if value.startswith(IMAGE_SCHEME):
            images[name] = Reference.parse(value.removeprefix(IMAGE_SCHEME))
        elif value.startswith("oci-layout://"):
            hint = "import it: `wherry image import oci:DIR --name NAME`, then docker-image://NAME"
            raise UsageError("--build-context: an image layout is no context", where=text, hint=hint)
        else:
            files[name] = value
    return files, images


def secret(text: str) -> tuple[str, Secret]:
    """Returns the id of a secret, and where it is.

    Raises:
        UsageError: it is not ``id=ID[,src=FILE|,env=NAME]``.
        NotFound: there is no such file.
    """
    words = dict(pair(word, "--secret") for word in text.split(","))
    name = words.pop("id", "")
    kind = words.pop("type", "")
    path, variable = words.pop("src", words.pop("source", "")), words.pop("env", "")
    if not name or words:
        raise UsageError("--secret: id=ID[,src=FILE|,env=NAME] expected", where=text.partition(",")[0])
    if variable or (kind == "env" and not path) or (not path and name in os.environ):
        variable = variable or name
        if variable not in os.environ:
            raise UsageError(f"--secret: no variable {variable} in the environment")
        return name, Secret(value=os.environb[variable.encode()])
    found = Path(path or name)
    if not found.is_file():
        raise NotFound("--secret: no such file", where=found)
    return name, Secret(path=found)


def agent(text: str) -> tuple[str, str]:
    """Returns the id of an SSH agent, and its socket.

    Raises:
        UsageError: there is none.
    """
    name, _, socket = text.partition("=")
    socket = socket or os.environ.get("SSH_AUTH_SOCK", "")
    if not socket:
        raise UsageError("--ssh: there is no SSH agent", hint="start one, or name its socket: default=SOCKET")
    return name, str(Path(socket).absolute())


def output(text: str) -> Output:
    """Returns what ``--output`` says: a directory, ``-``, or ``type=TYPE,dest=PATH``.

    Raises:
        UsageError: it says nothing that is known; names the word.
    """
    if "=" not in text:
        return Output(kind=Kind.TAR if text == STDOUT else Kind.LOCAL, dest=text)
    words = {}
    for word in next(csv.reader([text])):
        key, value = pair(word, "--output")
        words[key.strip().lower()] = value
    try:
        kind = Kind(words.pop("type", ""))
    except ValueError:
        raise UsageError("--output: not a type", where=text, hint=f"types are {', '.join(Kind)}") from None
    dest = words.pop("dest", "")
    names = tuple(Reference.parse(name) for name in words.pop("name", "").split(",") if name)
    push = _truth(words.pop("push", "true" if kind is Kind.REGISTRY else "false"), "push")
    folder = not _truth(words.pop("tar", "true"), "tar")
    if words:
        raise UsageError(f"--output: unknown: {next(iter(words))}", where=text, hint="it takes type, dest, name, push")
    if kind in (Kind.IMAGE, Kind.REGISTRY):
        if dest:
            raise UsageError(f"--output: {kind} has no dest", where=text)
    elif kind in _FILES and not dest and not folder:
        dest = STDOUT
    elif not dest:
        raise UsageError(f"--output: {kind} needs a dest", where=text, hint="add dest=PATH")
    if push and kind not in (Kind.IMAGE, Kind.REGISTRY):
        raise UsageError("--output: only an image is pushed", where=text, hint="write type=image,push=true")
    if folder and (kind is not Kind.OCI or dest == STDOUT):
        raise UsageError("--output: tar=false goes with type=oci and a dest", where=text)
    return Output(kind=kind, dest=dest, names=names, push=push, folder=folder)


def _truth(text: str, key: str) -> bool:
    if text not in ("true", "false"):
        raise UsageError(f"--output: {key} is true or false, got {text!r}")
    return text == "true"
