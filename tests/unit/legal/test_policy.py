"""Which licences a policy lets in, and what it says of those that it does not."""

from __future__ import annotations

from typing import Any

import pytest

from wherry.build.contributions import Line
from wherry.build.legal.component import Component, Part
from wherry.build.legal.policy import (
    Answer,
    Forbidden,
    allowed,
    check_policy,
    enforce,
    read_policy,
    unused_exceptions,
)
from wherry.core.errors import InvalidInput


def component(name: str, licence: str = "MIT", **more: Any) -> Component:
    return Component(kind="deb", name=name, version="1", licence=licence, **more)


def denied(licence: str, **section: Any) -> tuple[str, ...]:
    found = check_policy([component("a", licence)], read_policy(section))
    return found[0].licences if found else ()


@pytest.mark.parametrize(
    ("licence", "deny", "expected"),
    [
        ("GPL-3.0-only", ["GPL-3.0-only"], ("GPL-3.0-only",)),
        ("GPL-3.0-or-later", ["GPL-3.0-only"], ()),
        ("GPL-3.0-or-later", ["gpl-3.0*"], ("GPL-3.0-or-later",)),
        ("LGPL-3.0-only", ["GPL-3.0*"], ()),
        ("LGPL-3.0-only", ["*GPL-3.0*"], ("LGPL-3.0-only",)),
        ("MIT OR GPL-3.0-only", ["GPL-3.0*"], ()),
        ("MIT AND GPL-3.0-only", ["GPL-3.0*"], ("GPL-3.0-only",)),
        ("(MIT OR GPL-3.0-only) AND ISC", ["GPL-3.0*", "MIT"], ("GPL-3.0-only", "MIT")),
        ("(MIT OR GPL-3.0-only) AND ISC", ["GPL-3.0*"], ()),
        ("(MIT AND GPL-3.0-only) OR ISC", ["GPL-3.0*"], ()),
        ("GPL-3.0-only WITH GCC-exception-3.1", ["GPL-3.0-only"], ("GPL-3.0-only WITH GCC-exception-3.1",)),
        ("LicenseRef-GPL-3-plus-with-texinfo-exception", ["GPL-3.0-or-later"], None),
        ("LicenseRef-GPL-3-plus-with-texinfo-exception", ["GPL-3.0-only"], ()),
        ("LicenseRef-GPL-3.0-with-x-exception", ["GPL-3.0-only"], None),
        ("LicenseRef-LGPL-3-plus-with-x", ["GPL-3.0*"], ()),
        ("LicenseRef-JSON", ["json"], ("LicenseRef-JSON",)),
    ],
)
def test_deny(licence: str, deny: list[str], expected: tuple[str, ...] | None) -> None:
    assert denied(licence, deny=deny) == ((licence,) if expected is None else expected)


def test_allow_lets_nothing_else_in() -> None:
    assert denied("ISC", allow=["MIT", "BSD-*"]) == ("ISC",)
    assert denied("BSD-2-Clause", allow=["MIT", "BSD-*"]) == ()
    assert denied("MIT AND ISC", allow=["MIT"]) == ("ISC",)


@pytest.mark.parametrize(
    ("licence", "expected"),
    [
        ("GPL-3.0-or-later WITH GCC-exception-3.1", True),  # the whole name is in allow, a pattern in deny
        ("GPL-3.0-or-later", False),
        ("MIT", True),
        ("ISC", False),  # in both, by its whole name
    ],
)
def test_the_more_exact_counts(licence: str, expected: bool) -> None:
    policy = read_policy(
        {"deny": ["GPL-3.0*", "ISC"], "allow": ["*", "ISC", "GPL-3.0-or-later WITH GCC-exception-3.1"]}
    )
    assert allowed(licence, policy) is expected


def test_a_whole_name_beats_its_base() -> None:
    section = {"deny": ["GPL-3.0-or-later"], "allow": ["*", "GPL-3.0-or-later WITH GCC-exception-3.1"]}
    assert denied("GPL-3.0-or-later WITH GCC-exception-3.1", **section) == ()
    assert denied("GPL-3.0-or-later", **section) == ("GPL-3.0-or-later",)


def test_unknown() -> None:
    def answers(**section: Any) -> list[Answer]:
        return [item.answer for item in check_policy([component("a", "")], read_policy(section))]

    assert answers(deny=["GPL-3.0*"]) == [Answer.WARN]
    assert answers(deny=["GPL-3.0*"], unknown="allow") == []
    assert answers(unknown="deny") == [Answer.DENY]
    assert answers(deny=["unknown"]) == [Answer.DENY]
    assert answers() == []
    assert answers(unknown="deny", exceptions=[{"package": "a", "reason": "seen by us"}]) == []


def test_proprietary() -> None:
    blob = component("firmware", "LicenseRef-Broadcom", proprietary="in Debian's non-free-firmware")
    assert check_policy([blob], read_policy({"deny": ["GPL-3.0*"]})) == []
    (found,) = check_policy([blob], read_policy({"proprietary": "deny"}))
    assert found.licences == ("not free: in Debian's non-free-firmware",)
    exempt = {"proprietary": "deny", "exceptions": [{"package": "firm*", "reason": "the board needs it"}]}
    assert check_policy([blob], read_policy(exempt)) == []


def test_exceptions() -> None:
    section: dict[str, Any] = {
        "deny": ["GPL-3.0*"],
        "exceptions": [{"package": "bash", "licence": "GPL-3.0-or-later", "reason": "only in the factory"}],
    }
    policy = read_policy(section)
    assert check_policy([component("bash", "GPL-3.0-or-later")], policy) == []
    assert len(check_policy([component("bash", "GPL-3.0-only")], policy)) == 1
    assert check_policy([component("bash-static", "GPL-3.0-or-later", source="bash")], policy) == []
    assert unused_exceptions([component("bash", "GPL-3.0-or-later")], policy) == []
    assert [item.package for item in unused_exceptions([component("bash", "MIT")], policy)] == ["bash"]


PACKAGES = (
    Line(text="app", layer="acme/app", path="packages/app", line=2),
    Line(text="shell/bookworm", layer="acme/base", path="packages/base", line=7),
)


def chain() -> list[Component]:
    lib = component("lib", "GPL-3.0-only", parts=(Part(licence="GPL-3.0-only", files=("src/*",)),))
    middle = component("middle", depends=(lib.key,))
    app = component("app", depends=(middle.key,))
    shell = component("shell", "GPL-3.0-or-later", parts=(Part(licence="GPL-3.0-or-later", files=("*",)),))
    base = component("base-files", "GPL-3.0-only")
    return [app, base, lib, middle, shell]


def test_it_is_said_who_wants_it() -> None:
    found = {
        item.component.name: item.text() for item in check_policy(chain(), read_policy({"deny": "GPL-3.0*"}), PACKAGES)
    }
    assert found == {
        "lib": "lib 1: GPL-3.0-only in src/*; wanted by acme/app: packages/app:2 through app > middle > lib",
        "shell": "shell 1: GPL-3.0-or-later; wanted by acme/base: packages/base:7",
        "base-files": "base-files 1: GPL-3.0-only; a part of the base system",
    }


def test_a_cycle_of_dependencies_ends() -> None:
    one = component("one", "ISC")
    two = component("two", depends=(one.key,))
    one = component("one", "ISC", depends=(two.key,))
    line = Line(text="two", layer="a/b", path="packages/p", line=1)
    (found,) = check_policy([one, two], read_policy({"deny": ["ISC"]}), [line])
    assert found.path == ("two", "one")


def test_enforce_names_every_offender() -> None:
    told: list[str] = []
    unknown = component("odd", "")
    with pytest.raises(Forbidden) as caught:
        enforce([*chain(), unknown], read_policy({"deny": ["GPL-3.0*"]}), PACKAGES, warn=told.append)
    assert caught.value.exit_code == 5
    assert all(name in str(caught.value) for name in ("lib 1", "shell 1", "base-files 1", "packages/app:2"))
    assert "odd" not in str(caught.value)
    assert told == ["licences: odd 1: unknown; a part of the base system"]
    assert len(caught.value.violations) == 3


def test_enforce_lets_the_others_pass() -> None:
    told: list[str] = []
    section = {"deny": ["AGPL-*"], "exceptions": [{"package": "gone", "reason": "was needed once"}]}
    enforce(chain(), read_policy(section), PACKAGES, warn=told.append)
    assert told == ["licences: nothing needs the exception for gone (was needed once)"]


@pytest.mark.parametrize(
    ("section", "words"),
    [
        ({"denny": ["MIT"]}, "unknown key 'denny'"),
        ({"deny": [1]}, "deny[0]"),
        ({"deny": ["MIT OR ISC"]}, "one licence stands in a pattern"),
        ({"deny": [" "]}, "deny: an empty pattern"),
        ({"unknown": "perhaps"}, "unknown"),
        ({"exceptions": [{"package": "a"}]}, "'reason' is missing"),
        ({"exceptions": [{"package": "a", "reason": " "}]}, "has a package and a reason"),
        ({"exceptions": ["bash"]}, "exceptions[0]"),
    ],
)
def test_a_malformed_policy(section: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        read_policy(section, where="host.yaml: licences")
    assert words in str(caught.value)
    assert "host.yaml: licences" in str(caught.value)


def test_no_policy() -> None:
    assert not read_policy({})
    assert read_policy({"deny": "MIT"})
