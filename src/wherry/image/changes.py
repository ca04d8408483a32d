"""``--change``: lines of a Dockerfile that alter an image's config, as ``docker import`` and ``docker commit`` take.

Only instructions that touch nothing but the config are here; what they mean is the Dockerfile's own. A line is one
instruction. Variables in it are those of the image's environment.

Source: Dockerfile reference; "docker image import", option ``--change``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from wherry.core.errors import InvalidInput
from wherry.image.dockerfile.effects import apply_instruction
from wherry.image.dockerfile.expansion import GlobalArgs, Scope
from wherry.image.dockerfile.parsing import parse_instruction
from wherry.image.dockerfile.syntax import (
    KEYWORDS,
    Cmd,
    Entrypoint,
    Env,
    Expose,
    Healthcheck,
    Label,
    Onbuild,
    Shell,
    Stopsignal,
    User,
    Volume,
    Workdir,
)

_WHERE = "--change"
_ALLOWED = (Cmd, Entrypoint, Env, Expose, Healthcheck, Label, Onbuild, Shell, Stopsignal, User, Volume, Workdir)


def apply_changes(config: Mapping[str, Any], changes: Sequence[str]) -> dict[str, Any]:
    """Returns the ``config`` object of an image's config, with the instructions carried out in their order.

    Args:
        config: docker's config object (``Cmd``, ``Env`` ...), not changed.
        changes: instructions such as ``CMD ["nginx"]``, ``ENV A=b``.

    Raises:
        InvalidInput: an instruction is not known, malformed, or does more than change the config.
    """
    result = dict(config)
    env = dict(item.partition("=")[::2] for item in result.get("Env") or [])
    scope = Scope(globals=GlobalArgs(where=_WHERE), env=env)
    cmd_set = False
    for line in changes:
        node = parse_instruction(line, where=_WHERE)
        if not isinstance(node, _ALLOWED):
            known = " ".join(KEYWORDS[cls] for cls in _ALLOWED)
            raise InvalidInput(
                f"--change: {KEYWORDS[type(node)]} changes more than the config", where=line, hint=f"known are {known}"
            )
        apply_instruction(result, scope.expand(node), cmd_set=cmd_set)
        cmd_set = cmd_set or isinstance(node, Cmd)
    return result
