"""The ``linux.seccomp`` section of a ``config.json``: read into a `Profile`, and a `Profile` written as one.

Everything is read or refused, and a refusal names the rule: ``linux.seccomp.syscalls[3].args[0].op``. As runc and crun
have it, several conditions on one argument in one rule are a choice ("or"), those on different arguments a
conjunction ("and"); so one rule here may become several of a `Profile`, where conditions are always a conjunction.
Source: Runtime Specification 1.2.0, config-linux.md, "Seccomp"; runc's libcontainer/seccomp.
"""

from __future__ import annotations

from wherry.core.errors import InvalidInput
from wherry.linux.seccomp_profile import (
    ALLOW,
    ARCHITECTURES,
    FLAGS,
    KILL_PROCESS,
    KILL_THREAD,
    LOG,
    MAX_ERRNO,
    MAX_TRACE,
    NOTIFY,
    OPS,
    TRAP,
    Condition,
    Op,
    Profile,
    Rule,
    data_of,
    error,
    is_error,
    is_trace,
    notifies,
    trace,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import Any

    Where = object

PLACE = "linux.seccomp"
MAX_RULES = 4096
MAX_NAMES = 4096
_MAX_NUMBER = (1 << 64) - 1
_MAX_ARGUMENTS = 6
_EPERM = 1
_ACTIONS = {
    "SCMP_ACT_ALLOW": ALLOW,
    "SCMP_ACT_LOG": LOG,
    "SCMP_ACT_TRAP": TRAP,
    "SCMP_ACT_KILL": KILL_THREAD,
    "SCMP_ACT_KILL_THREAD": KILL_THREAD,
    "SCMP_ACT_KILL_PROCESS": KILL_PROCESS,
    "SCMP_ACT_NOTIFY": NOTIFY,
}
_ERRNO, _TRACE = "SCMP_ACT_ERRNO", "SCMP_ACT_TRACE"
ACTIONS = (*_ACTIONS, _ERRNO, _TRACE)
"""The words for what happens to a call."""
_KEYS = frozenset(
    ("defaultAction", "defaultErrnoRet", "architectures", "flags", "listenerPath", "listenerMetadata", "syscalls")
)
_RULE_KEYS = frozenset(("names", "action", "errnoRet", "args"))
_ARGUMENT_KEYS = frozenset(("index", "value", "valueTwo", "op"))
_TELLS_THE_PARENT = ("sendmsg",)
"""What a first process itself calls between loading its filter and handing over the listener's descriptor."""


def parse(
    value: object,
    *,
    at: str = PLACE,
    where: Where = None,
    kept: Callable[[Any, str], Any] = lambda call, _: call,
) -> Profile:
    """Reads the section.

    Args:
        value: the section as JSON has it.
        at: its path in the file, for messages.
        where: the file.
        kept: what to read for an item of ``syscalls``, which is given with its path; None leaves it out.

    Raises:
        InvalidInput: a value is malformed or unknown; names the key.
    """
    found = _object(value, _KEYS, at, where)
    default = parse_action(found, "defaultAction", "defaultErrnoRet", at=at, where=where)
    rules: list[Rule] = []
    calls = _list(found, "syscalls", at, where)
    if len(calls) > MAX_RULES:
        raise InvalidInput(f"{at}.syscalls: {len(calls)} rules, at most {MAX_RULES} are taken", where=where)
    for index, call in enumerate(calls):
        place = f"{at}.syscalls[{index}]"
        plain = kept(call, place)
        if plain is not None:
            rules += _rules(plain, place, where)
    profile = Profile(
        default_action=default,
        rules=tuple(rules),
        architectures=_words(found, "architectures", ARCHITECTURES, at, where),
        flags=_words(found, "flags", FLAGS, at, where),
        listener_path=_string(found, "listenerPath", at, where),
        listener_metadata=_string(found, "listenerMetadata", at, where),
    )
    _check_listener(profile, at, where)
    return profile


def _check_listener(profile: Profile, at: str, where: Where) -> None:
    if profile.default_action == NOTIFY:
        raise InvalidInput(f"{at}.defaultAction: SCMP_ACT_NOTIFY would stop the container's setup", where=where)
    for rule in profile.rules:
        for name in _TELLS_THE_PARENT:
            if rule.action == NOTIFY and name in rule.names:
                raise InvalidInput(f"{at}: SCMP_ACT_NOTIFY for {name} would stop the container's setup", where=where)
    if notifies(profile) and not profile.listener_path:
        raise InvalidInput(f"{at}.listenerPath: must be given with SCMP_ACT_NOTIFY", where=where)
    if profile.listener_metadata and not profile.listener_path:
        raise InvalidInput(f"{at}.listenerMetadata: means nothing without listenerPath", where=where)


def _rules(call: object, at: str, where: Where) -> list[Rule]:
    """Reads one item of ``syscalls``; more than one rule where it has several conditions on one argument."""
    found = _object(call, _RULE_KEYS, at, where)
    action = parse_action(found, "action", "errnoRet", at=at, where=where)
    names = _list(found, "names", at, where)
    if not names or len(names) > MAX_NAMES or not all(isinstance(name, str) and name for name in names):
        raise InvalidInput(f"{at}.names: must be a list of names of system calls", where=where)
    items = _list(found, "args", at, where)
    return rules_of(
        tuple(names),
        action,
        tuple(_condition(item, f"{at}.args[{index}]", where) for index, item in enumerate(items)),
    )


def rules_of(names: tuple[str, ...], action: int, conditions: tuple[Condition, ...]) -> list[Rule]:
    """Returns one rule, or one for each condition where two of them look at one argument."""
    if len({condition.argument for condition in conditions}) == len(conditions):
        return [Rule(names=names, action=action, conditions=conditions)]
    return [Rule(names=names, action=action, conditions=(condition,)) for condition in conditions]


def parse_action(found: Mapping[str, Any], key: str, code_key: str, *, at: str, where: Where) -> int:
    """Reads an action and the errno, or the message for a tracer, that goes with it."""
    name = found.get(key)
    code = found.get(code_key)
    if name in (_ERRNO, _TRACE):
        most = MAX_ERRNO if name == _ERRNO else MAX_TRACE
        if code is None:
            code = _EPERM
        if not _is_number(code) or code > most:
            raise InvalidInput(f"{at}.{code_key}: must be a number of at most {most}", where=where)
        return error(code) if name == _ERRNO else trace(code)
    if not isinstance(name, str) or name not in _ACTIONS:
        raise InvalidInput(f"{at}.{key}: not an action: {name!r}", where=where)
    if code is not None:
        raise InvalidInput(f"{at}.{code_key}: means nothing with {name}", where=where)
    return _ACTIONS[name]


def _condition(item: object, at: str, where: Where) -> Condition:
    found = _object(item, _ARGUMENT_KEYS, at, where)
    op = found.get("op")
    if op not in OPS:
        raise InvalidInput(f"{at}.op: not a comparison: {op!r}", where=where)
    for key in ("index", "value", "valueTwo"):
        if not _is_number(found.get(key, 0)):
            raise InvalidInput(f"{at}.{key}: must be a number of 64 bits, not negative", where=where)
    index, value, second = (int(found.get(key, 0)) for key in ("index", "value", "valueTwo"))
    if index >= _MAX_ARGUMENTS:
        raise InvalidInput(f"{at}.index: a system call has arguments 0 to {_MAX_ARGUMENTS - 1}", where=where)
    if op == Op.MASKED_EQ:
        return Condition(argument=index, op=op, value=second, mask=value)
    return Condition(argument=index, op=str(op), value=value)


def _is_number(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _MAX_NUMBER


def _object(value: object, keys: Iterable[str], at: str, where: Where) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise InvalidInput(f"{at}: must be an object", where=where)
    for key in value:
        if key not in keys:
            raise InvalidInput(f"{at}.{key}: there is no such key", where=where)
    return {key: item for key, item in value.items() if item is not None}


def _list(found: Mapping[str, Any], key: str, at: str, where: Where) -> list[Any]:
    value = found.get(key, [])
    if not isinstance(value, list):
        raise InvalidInput(f"{at}.{key}: must be a list", where=where)
    return value


def _string(found: Mapping[str, Any], key: str, at: str, where: Where) -> str:
    value = found.get(key, "")
    if not isinstance(value, str):
        raise InvalidInput(f"{at}.{key}: must be a string", where=where)
    return value


def _words(found: Mapping[str, Any], key: str, known: Iterable[str], at: str, where: Where) -> tuple[str, ...]:
    words = _list(found, key, at, where)
    for index, word in enumerate(words):
        if word not in known:
            raise InvalidInput(f"{at}.{key}[{index}]: not known: {word!r}", where=where)
    return tuple(words)


def serialize(profile: Profile) -> dict[str, Any]:
    """Returns a profile as the JSON value of the section.

    Raises:
        InvalidInput: a rule has two conditions on one argument, which other runtimes would read as a choice.
    """
    value: dict[str, Any] = {
        **_serialize_action("defaultAction", "defaultErrnoRet", profile.default_action),
        "architectures": list(profile.architectures),
        "flags": list(profile.flags),
        "listenerPath": profile.listener_path,
        "listenerMetadata": profile.listener_metadata,
        "syscalls": [_serialize_rule(rule) for rule in profile.rules],
    }
    return {key: item for key, item in value.items() if item not in ("", []) or key == "syscalls"}


def _serialize_rule(rule: Rule) -> dict[str, Any]:
    if len({condition.argument for condition in rule.conditions}) != len(rule.conditions):
        raise InvalidInput(f"{PLACE}: a rule for {rule.names[0]} has two conditions on one argument")
    value = {"names": list(rule.names), **_serialize_action("action", "errnoRet", rule.action)}
    if rule.conditions:
        value["args"] = [_serialize_condition(condition) for condition in rule.conditions]
    return value


def _serialize_action(key: str, code_key: str, action: int) -> dict[str, Any]:
    if is_error(action):
        return {key: _ERRNO, code_key: data_of(action)}
    if is_trace(action):
        return {key: _TRACE, code_key: data_of(action)}
    return {key: next(name for name, known in reversed(_ACTIONS.items()) if known == action)}


def _serialize_condition(condition: Condition) -> dict[str, Any]:
    if condition.op == Op.MASKED_EQ:
        return {
            "index": condition.argument,
            "op": condition.op,
            "value": condition.mask,
            "valueTwo": condition.value,
        }
    return {"index": condition.argument, "op": condition.op, "value": condition.value}
