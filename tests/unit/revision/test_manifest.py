"""``wherry.yaml``: what it may say, and the line of every mistake."""

from __future__ import annotations

import pytest

from wherry.core.errors import InvalidInput
from wherry.revision.manifest import Manifest, parse_manifest
from wherry.spec.revision import HealthPolicy


def test_all_keys() -> None:
    text = b"name: kiosk\ntarget: amd64\nhealth: {timeout: 2m, stable: 10s, require_hub: false}\nx-team: ours\n"
    assert parse_manifest(text) == Manifest(
        name="kiosk", target="amd64", health=HealthPolicy(timeout_ms=120_000, stable_ms=10_000, require_hub=False)
    )


def test_defaults() -> None:
    assert parse_manifest(b"name: kiosk\ntarget:\nhealth:\n") == Manifest(name="kiosk")


@pytest.mark.parametrize(
    ("text", "place", "message"),
    [
        (b"", "wherry.yaml", "name is missing"),
        (b"target: x\n", "wherry.yaml:1:1", "name is missing"),
        (b"name:\n", "wherry.yaml:1:6", "name: has no value"),
        (b"name: a b\n", "wherry.yaml:1:7", "not a name"),
        (b"name: a\nheath: {}\n", "wherry.yaml:2:1", "unknown key.*did you mean 'health'"),
        (b"name: a\nhost: debian\n", "wherry.yaml:2:1", "does not support"),
        (b"name: a\ntarget: A/B\n", "wherry.yaml:2:9", "not a target"),
        (b"name: a\nhealth:\n  timout: 5s\n", "wherry.yaml:3:3", "health.timout: unknown key.*'timeout'"),
        (b"name: a\nhealth: {timeout: soon}\n", "wherry.yaml:2:19", "not a duration"),
        (b"name: a\nhealth: {require_hub: 1}\n", "wherry.yaml:2:23", "must be true or false"),
        (b"name: a\nhealth: {timeout: 5s, stable: 5s}\n", "wherry.yaml:2:9", "stable must be shorter"),
    ],
)
def test_mistakes(text: bytes, place: str, message: str) -> None:
    with pytest.raises(InvalidInput, match=message) as error:
        parse_manifest(text)
    assert error.value.where == place
