"""``--secret``: podman's words and what they mean. Loaded when a container has one."""

from __future__ import annotations

import os

from wherry.cli.container_mounts import parse_mode
from wherry.cli.container_options import whole
from wherry.core.errors import UsageError
from wherry.core.value import Value, replace
from wherry.engine import secrets
from wherry.spec.container import Mount, MountType

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from wherry.engine.spec import ContainerSpec
    from wherry.engine.state import Paths

FOLDER = "/run/secrets"
MAX_ID = 2**32 - 2
_KEYS = ("source", "target", "type", "uid", "gid", "mode")


class Wanted(Value):
    """One secret that a container gets: a file at ``target``, or the value of ``variable``."""

    name: str
    target: str = ""
    variable: str = ""
    uid: int = 0
    gid: int = 0
    mode: int = secrets.DEFAULT_MODE


def parse_secret(text: str) -> Wanted:
    """Returns what ``--secret NAME[,target=][,type=mount|env][,uid=][,gid=][,mode=]`` means.

    Raises:
        UsageError: an option is unknown, or wrong.
    """
    first, *options = text.split(",")
    values = dict.fromkeys(_KEYS, "")
    for item in (first if "=" in first else f"source={first}", *options):
        key, equals, value = item.partition("=")
        if not equals or key not in values:
            raise UsageError(f"--secret: no option {item!r}", hint=f"known are {', '.join(_KEYS)}")
        values[key] = value
    name, target, kind = values["source"], values["target"], values["type"] or "mount"
    if not name:
        raise UsageError(f"--secret: no name in {text!r}")
    if kind not in ("mount", "env"):
        raise UsageError(f"--secret: no type {kind!r}", hint="use mount or env")
    if kind == "env":
        owned = [key for key in ("uid", "gid", "mode") if values[key]]
        if owned:
            raise UsageError(f"--secret: {owned[0]} is for type=mount", hint="a variable has no owner")
        if "=" in target:
            raise UsageError(f"--secret: not a variable: {target!r}")
        return Wanted(name=name, variable=target or name)
    return Wanted(
        name=name,
        target=os.path.join(FOLDER, target or name),
        uid=whole(values["uid"] or "0", "--secret uid", most=MAX_ID),
        gid=whole(values["gid"] or "0", "--secret gid", most=MAX_ID),
        mode=parse_mode(values["mode"]) if values["mode"] else secrets.DEFAULT_MODE,
    )


def with_secrets(paths: Paths, spec: ContainerSpec, words: Iterable[str]) -> ContainerSpec:
    """Returns a request with the secrets that flags name.

    Raises:
        NotFound: there is no such secret.
        UsageError: a flag is wrong.
    """
    wanted = [parse_secret(text) for text in words]
    for item in wanted:
        secrets.path(paths, item.name)  # one that is not there is told before anything is made
    paths.make()
    found = [
        Mount(
            type=MountType.BIND,
            source=str(secrets.path_for(paths, item.name, uid=item.uid, gid=item.gid, mode=item.mode)),
            target=item.target,
            read_only=True,
            mapped=True,
        )
        for item in wanted
        if item.target
    ]
    variables = {item.variable: item.name for item in wanted if item.variable}
    return replace(spec, mounts=(*spec.mounts, *found), secret_env=variables)
