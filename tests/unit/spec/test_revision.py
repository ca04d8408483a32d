"""``revision.json``: canonical bytes, unknown fields kept, mistakes named."""

from __future__ import annotations

import json

import pytest

from wherry.core.errors import InvalidInput, Unsupported
from wherry.spec.container import App, AppImage, PortMapping
from wherry.spec.revision import FORMAT, Revision, parse_revision, serialize_revision

_COMMIT = "ab" * 32
_IMAGE = AppImage(reference="web:1", commit=_COMMIT, digest="sha256:" + "cd" * 32)


def _revision() -> Revision:
    return Revision(
        format=FORMAT,
        name="kiosk",
        apps={
            "web": App(image=_IMAGE, ports=(PortMapping(container_port=80, host_port=8080),)),
            "b": App(image=_IMAGE),
        },
    )


def test_round_trip_is_canonical() -> None:
    data = serialize_revision(_revision())
    assert parse_revision(data) == _revision()
    assert serialize_revision(parse_revision(data)) == data
    assert b" " not in data
    assert list(json.loads(data)["apps"]) == ["b", "web"]


def test_components_are_named_once() -> None:
    assert _revision().components() == (_COMMIT,)


def test_unknown_fields_survive() -> None:
    value = json.loads(serialize_revision(_revision()))
    value["host"] = {"commit": "x"}
    value["apps"]["web"]["sidecar"] = True
    data = json.dumps(value, sort_keys=True, separators=(",", ":")).encode()
    assert serialize_revision(parse_revision(data)) == data


def test_a_newer_format_is_refused() -> None:
    value = json.loads(serialize_revision(_revision())) | {"format": FORMAT + 1}
    with pytest.raises(Unsupported, match="update Wherry first"):
        parse_revision(json.dumps(value).encode())


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("apps", "web", "image", "commit"), "short", "64 hex digits"),
        (("apps", "web", "depends_on"), {"nobody": "service_started"}, "no app 'nobody'"),
        (("apps", "web", "ports"), [{"container_port": "80"}], "whole number"),
        (("name",), None, "must be a string"),
    ],
)
def test_mistakes(path: tuple[str, ...], value: object, message: str) -> None:
    document = json.loads(serialize_revision(_revision()))
    spot = document
    for key in path[:-1]:
        spot = spot[key]
    spot[path[-1]] = value
    with pytest.raises(InvalidInput, match=message):
        parse_revision(json.dumps(document).encode())
