"""Which licences may get into a host: the section ``licences`` of ``host.yaml``, and who breaks it.

::

    licences:
      deny: [GPL-3.0*, AGPL-*]              patterns on SPDX identifiers; case does not count
      allow: [GPL-3.0-or-later WITH GCC-exception-3.1]
      unknown: warn                         or deny: packages whose licence is not known
      proprietary: allow                    or deny, or warn: what is not free software
      exceptions:
        - package: bash                     a package or a source package; * and ? stand for others
          licence: GPL-3.0-or-later         that licence alone; without it, all
          reason: removed by the maker's own image step

A licence is forbidden where a pattern of ``deny`` fits it, or where ``allow`` has patterns and none fits. Where both
fit, a name without ``*`` and ``?`` counts more than a pattern; between equals ``deny`` does. Of ``A OR B`` one that is
allowed is enough, since whoever passes it on may choose; of ``A AND B`` both count. A pattern without ``WITH`` fits a
licence with an exception, too, and Debian's own names for such ones (``LicenseRef-GPL-3-plus-with-...``).

This module is pure.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from wherry.core.errors import InvalidInput
from wherry.image.sbom.licences import parse
from wherry.image.sbom.policy import licences_of
from wherry.spec.codec import decode

if TYPE_CHECKING:
    from wherry.build.contributions import Line
    from wherry.build.legal.component import Component

UNKNOWN = "unknown"
_GNU_REF = re.compile(r"licenseref-(a?gpl|lgpl)-?(\d)(?:\.(\d))?(-plus|\+)?-with-")
_MAX_SHOWN_FILES = 3


class Answer(StrEnum):
    """What becomes of something."""

    ALLOW = "allow"
    WARN = "warn"
    DENY = "deny"


@dataclass(frozen=True, slots=True, kw_only=True)
class Exemption:
    """A package that may break the rules."""

    package: str
    reason: str
    licence: str = ""
    """A pattern; "" for all of its licences."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What may get into a host."""

    deny: tuple[str, ...] = ()
    allow: tuple[str, ...] = ()
    unknown: Answer = Answer.WARN
    proprietary: Answer = Answer.ALLOW
    exceptions: tuple[Exemption, ...] = ()

    def __bool__(self) -> bool:
        """Tells whether it forbids or warns of anything that somebody asked about."""
        return self != Policy()


@dataclass(frozen=True, slots=True, kw_only=True)
class Violation:
    """A component that a policy forbids, or warns of."""

    component: Component
    licences: tuple[str, ...]
    """Those that are forbidden; or `UNKNOWN`; or why it is not free."""
    answer: Answer
    files: tuple[str, ...] = ()
    """Patterns of the files in its source that are under them, where the package says."""
    wanted: tuple[Line, ...] = ()
    """The layers' lines that want it, or the first of `path`; none: it is a part of the base system."""
    path: tuple[str, ...] = ()
    """The packages from the one in that line to this one, itself at the end; only where a dependency brings it."""

    def text(self) -> str:
        """Returns it for people, in one line."""
        item = self.component
        files = f" in {', '.join(self.files[:_MAX_SHOWN_FILES])}" if self.files else ""
        more = f" and {len(self.files) - _MAX_SHOWN_FILES} more" if len(self.files) > _MAX_SHOWN_FILES else ""
        return f"{item.name} {item.version}: {', '.join(self.licences)}{files}{more}; {self.why()}"

    def why(self) -> str:
        """Returns who wants it: ``debian/base: packages/base:3``, and through which dependencies."""
        if self.component.layer:
            return f"brought by layer {self.component.layer}"
        if not self.wanted:
            return "a part of the base system"
        lines = ", ".join(f"{line.layer}: {line.path}:{line.line}" for line in self.wanted)
        through = f" through {' > '.join(self.path)}" if len(self.path) > 1 else ""
        return f"wanted by {lines}{through}"


class Forbidden(InvalidInput):
    """The policy forbids a part of a host; has every violation."""

    def __init__(self, violations: Sequence[Violation]) -> None:
        shown = " | ".join(item.text() for item in violations)
        super().__init__(
            f"the licence policy forbids {len(violations)} package{'s' * (len(violations) != 1)}: {shown}",
            hint="leave them out, choose others, or name them in licences: exceptions of host.yaml",
        )
        self.violations = tuple(violations)


def read_policy(section: Mapping[str, Any], *, where: object = None) -> Policy:
    """Returns the policy that a section of ``host.yaml`` is.

    Raises:
        InvalidInput: it is malformed; names the key.
    """
    value = {
        key: [item] if key in ("deny", "allow") and isinstance(item, str) else item for key, item in section.items()
    }
    policy = decode(Policy, value, where=where)
    for key, patterns in (("deny", policy.deny), ("allow", policy.allow)):
        if not all(pattern.strip() for pattern in patterns):
            raise InvalidInput(f"{key}: an empty pattern", where=where)
        for pattern in patterns:
            if re.search(r"\s(OR|AND)\s", pattern, re.IGNORECASE):
                raise InvalidInput(
                    f"{key}: one licence stands in a pattern, not {pattern[:80]!r}", where=where, hint="two patterns"
                )
    for exemption in policy.exceptions:
        if not exemption.package.strip() or not exemption.reason.strip():
            raise InvalidInput("exceptions: each has a package and a reason", where=where)
    return policy


def check_policy(components: Iterable[Component], policy: Policy, packages: Sequence[Line] = ()) -> list[Violation]:
    """Returns every component that a policy forbids or warns of, by name; those forbidden first.

    Args:
        components: of the host, all of them: dependencies are followed among them.
        policy: what may be there.
        packages: the packages that layers want (`Contributions.packages`).
    """
    every = list(components)
    trace = _Trace(every, packages)
    found = []
    for component in every:
        for answer, licences in _judge(component, policy):
            wanted, path = trace.to(component)
            found.append(
                Violation(
                    component=component,
                    licences=licences,
                    answer=answer,
                    files=_files(component, licences),
                    wanted=wanted,
                    path=path,
                )
            )
    return sorted(found, key=lambda item: (item.answer is not Answer.DENY, item.component.key))


def enforce(
    components: Iterable[Component],
    policy: Policy,
    packages: Sequence[Line] = (),
    *,
    warn: Callable[[str], None] = lambda line: None,
) -> None:
    """Refuses a host that a policy forbids.

    Args:
        components: of the host.
        policy: what may be there.
        packages: the packages that layers want.
        warn: is told what is only warned of, and which exceptions nothing needs.

    Raises:
        Forbidden: there is something that may not; names all of it.
    """
    every = list(components)
    violations = check_policy(every, policy, packages)
    for item in violations:
        if item.answer is Answer.WARN:
            warn(f"licences: {item.text()}")
    for exemption in unused_exceptions(every, policy):
        warn(f"licences: nothing needs the exception for {exemption.package} ({exemption.reason})")
    denied = [item for item in violations if item.answer is Answer.DENY]
    if denied:
        raise Forbidden(denied)


def unused_exceptions(components: Iterable[Component], policy: Policy) -> list[Exemption]:
    """Returns the exceptions without which nothing else would be forbidden."""
    every = list(components)
    strict = Policy(deny=policy.deny, allow=policy.allow, unknown=policy.unknown, proprietary=policy.proprietary)
    broken = [(component, licences) for component in every for _, licences in _judge(component, strict)]
    return [
        exemption
        for exemption in policy.exceptions
        if not any(_exempt(component, licence, (exemption,)) for component, found in broken for licence in found)
    ]


def _judge(component: Component, policy: Policy) -> list[tuple[Answer, tuple[str, ...]]]:
    found: list[tuple[Answer, tuple[str, ...]]] = []
    if component.proprietary and policy.proprietary is not Answer.ALLOW:
        why = f"not free: {component.proprietary}"
        if not _exempt(component, "proprietary", policy.exceptions):
            found.append((policy.proprietary, (why,)))
    if not component.licence:
        asked = policy.deny or policy.allow or policy.unknown is Answer.DENY
        named = any(pattern.lower() == UNKNOWN for pattern in policy.deny)
        answer = Answer.DENY if named else policy.unknown
        if asked and answer is not Answer.ALLOW and not _exempt(component, UNKNOWN, policy.exceptions):
            found.append((answer, (UNKNOWN,)))
        return found
    denied = _denied(parse(component.licence), component, policy)
    if denied:
        found.append((Answer.DENY, tuple(sorted(denied))))
    return found


def _denied(node: Any, component: Component, policy: Policy) -> set[str]:
    """Returns the licences because of which an expression is forbidden; none when it is not."""
    if not getattr(node, "args", None) or not hasattr(node, "operator"):
        name = str(node.render())
        forbidden = not allowed(name, policy) and not _exempt(component, name, policy.exceptions)
        return {name} if forbidden else set()
    below = [_denied(child, component, policy) for child in node.args]
    if node.operator.strip().upper() == "OR" and not all(below):
        return set()
    return set().union(*below)


def allowed(licence: str, policy: Policy) -> bool:
    """Tells whether a policy allows one licence, with its exception if it has one."""
    names = _names(licence)
    deny, allow = _weight(names, policy.deny), _weight(names, policy.allow)
    if deny or allow:
        return allow > deny
    return not policy.allow


def _weight(names: Sequence[str], patterns: Iterable[str]) -> int:
    """Returns 0 where no pattern fits, 1 where one with wildcards does, 2 where one names the base, 3 the whole."""
    found = 0
    for pattern in patterns:
        text = " ".join(pattern.lower().split())
        if any(char in text for char in "*?["):
            found = max(found, int(any(fnmatchcase(name, text) for name in names)))
        elif text in (names[0], names[0].removeprefix("licenseref-")):
            return 3
        elif text in names:
            found = 2
    return found


def _names(licence: str) -> list[str]:
    """Returns what patterns are held against: the licence itself, and what it is an exception to."""
    name = licence.lower()
    names = [name, name.removeprefix("licenseref-"), name.partition(" with ")[0]]
    gnu = _GNU_REF.match(name)
    if gnu is not None:
        names.append(f"{gnu[1]}-{gnu[2]}.{gnu[3] or '0'}-{'or-later' if gnu[4] else 'only'}")
    return list(dict.fromkeys(names))


def _exempt(component: Component, licence: str, exemptions: Iterable[Exemption]) -> bool:
    names = [component.name, *([component.source] if component.source else [])]
    return any(
        any(fnmatchcase(name, exemption.package) for name in names)
        and (not exemption.licence or _weight(_names(licence), [exemption.licence]) > 0)
        for exemption in exemptions
    )


def _files(component: Component, licences: tuple[str, ...]) -> tuple[str, ...]:
    """Returns the files of a source that are under a licence, unless that is the whole of it."""
    files = [
        pattern
        for part in component.parts
        if not set(licences).isdisjoint(licences_of(part.licence))
        for pattern in part.files
    ]
    return () if "*" in files else tuple(dict.fromkeys(files))


class _Trace:
    """Who wants a package: shortest paths of dependencies from what layers' lines name."""

    def __init__(self, components: Sequence[Component], packages: Sequence[Line]) -> None:
        by_name: dict[str, list[Component]] = {}
        by_key = {component.key: component for component in components}
        for component in components:
            by_name.setdefault(component.name, []).append(component)
        self._lines: dict[str, list[Line]] = {}
        self._before: dict[str, str] = {}
        self._names = {component.key: component.name for component in components}
        reached: dict[str, None] = {}
        for line in packages:
            for component in by_name.get(line.text.split(":")[0].split("/")[0].split("=")[0], ()):
                self._lines.setdefault(component.key, []).append(line)
                reached.setdefault(component.key)
        pending = list(reached)
        for key in pending:
            for below in by_key[key].depends:
                if below in by_key and below not in reached:
                    reached.setdefault(below)
                    self._before[below] = key
                    pending.append(below)

    def to(self, component: Component) -> tuple[tuple[Line, ...], tuple[str, ...]]:
        """Returns the lines that want a component, and the path from there to it."""
        key = component.key
        path = [component.name]
        while key not in self._lines and key in self._before:
            key = self._before[key]
            path.append(self._names[key])
        return tuple(self._lines.get(key, ())), tuple(reversed(path))
