"""What keys of a service mean that docker's flags have not in this form; `engine.words` has what both have.

The errors have no place: whoever calls knows the service and the key.
"""

from __future__ import annotations

from collections.abc import Mapping

from wherry.core.units import parse_duration_ms
from wherry.engine import words
from wherry.engine.spec import LogLimits
from wherry.spec.container import RestartName, RestartPolicy


def logging(given: Mapping[str, object]) -> LogLimits:
    """Returns what ``logging`` says.

    Raises:
        InvalidInput: another driver or option.
    """
    options = given.get("options", {})
    pairs = options.items() if isinstance(options, dict) else ()
    return words.log_limits(str(given.get("driver", "json-file")), ((key, str(value)) for key, value in pairs))


def restart_policy(service: Mapping[str, object]) -> RestartPolicy:
    """Returns what ``restart`` says, or ``deploy.restart_policy`` without it."""
    text = service.get("restart")
    if isinstance(text, str):
        return words.restart(text)
    deploy = service.get("deploy")
    given = deploy.get("restart_policy") if isinstance(deploy, dict) else None
    if not given:
        return RestartPolicy()
    condition = given.get("condition", "any")
    if condition == "on-failure":
        return RestartPolicy(name=RestartName.ON_FAILURE, max_retries=given.get("max_attempts", 0))
    return RestartPolicy(name=RestartName.NO if condition == "none" else RestartName.ALWAYS)


def seconds(text: str) -> int:
    """Returns a duration in whole seconds, never less than it."""
    return -(-parse_duration_ms(text) // 1000)
