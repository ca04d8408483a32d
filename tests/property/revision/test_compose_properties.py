"""Compose files made at random say what they were made from; whatever bytes come, only InvalidInput is raised."""

from __future__ import annotations

import contextlib
from typing import Any

import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from wherry.core.errors import InvalidInput, Unsupported
from wherry.revision.compose import parse_compose_file
from wherry.revision.manifest import parse_manifest
from wherry.spec.container import App, AppImage, Mount, MountType, PortMapping
from wherry.spec.revision import Revision, parse_revision, serialize_revision

_NAMES = st.from_regex(r"[a-z][a-z0-9_.-]{0,20}", fullmatch=True)
_TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0", exclude_categories=("Cs", "Cc")), max_size=30)
_VARIABLES = st.dictionaries(st.from_regex(r"[A-Z_][A-Z0-9_]{0,10}", fullmatch=True), _TEXT, max_size=5)
_PATHS = st.from_regex(r"(/[a-z0-9._-]{1,8}){1,4}", fullmatch=True).filter(lambda path: "/." not in path)
_PORTS = st.builds(
    PortMapping,
    container_port=st.integers(1, 65535),
    host_port=st.integers(0, 65535),
    host_ip=st.sampled_from(["0.0.0.0", "127.0.0.1"]),
    protocol=st.sampled_from(["tcp", "udp"]),
)
_MOUNTS = st.builds(
    Mount, type=st.just(MountType.VOLUME), source=st.just("data"), target=_PATHS, read_only=st.booleans()
)


def _dollars(text: str) -> str:
    return text.replace("$", "$$")


def _port(port: PortMapping) -> str:
    host = str(port.host_port) if port.host_port else ""
    return f"{port.host_ip}:{host}:{port.container_port}/{port.protocol}"


@st.composite
def _services(draw: st.DrawFn) -> dict[str, dict[str, Any]]:
    names = draw(st.lists(_NAMES, unique=True, max_size=4))
    found: dict[str, dict[str, Any]] = {}
    taken: set[tuple[int, str]] = set()
    for index, name in enumerate(names):
        ports = []
        for port in draw(st.lists(_PORTS, max_size=3)):
            key = (port.host_port, port.protocol)
            if not port.host_port or key not in taken:
                taken.add(key)
                ports.append(port)
        found[name] = {
            "image": draw(_NAMES),
            "command": draw(st.none() | st.lists(_TEXT, max_size=4)),
            "environment": draw(_VARIABLES),
            "as_list": draw(st.booleans()),
            "ports": ports,
            "mounts": draw(st.lists(_MOUNTS, max_size=3, unique_by=lambda mount: mount.target)),
            "depends_on": draw(st.lists(st.sampled_from(names[:index]), unique=True) if index else st.just([])),
            "read_only": draw(st.booleans()),
        }
    return found


@settings(max_examples=40, deadline=None)
@given(_services(), st.booleans())
def test_what_is_written_is_read(services: dict[str, dict[str, Any]], flow: bool) -> None:
    document: dict[str, Any] = {"services": {}, "volumes": {"data": None}, "x-note": ["ignored"]}
    for name, service in services.items():
        variables = {key: _dollars(value) for key, value in service["environment"].items()}
        entry: dict[str, Any] = {
            "image": service["image"],
            "environment": [f"{k}={v}" for k, v in variables.items()] if service["as_list"] else variables,
            "ports": [_port(port) for port in service["ports"]],
            "volumes": [f"data:{m.target}" + (":ro" if m.read_only else "") for m in service["mounts"]],
            "depends_on": service["depends_on"],
            "read_only": service["read_only"],
        }
        if service["command"] is not None:
            entry["command"] = [_dollars(word) for word in service["command"]]
        document["services"][name] = entry
    text = yaml.safe_dump(document, default_flow_style=flow, allow_unicode=True, sort_keys=False)
    found = parse_compose_file(text.encode())
    assert list(found.services) == list(services)
    for name, service in services.items():
        read = found.services[name]
        assert read.image == service["image"]
        assert read.command == (None if service["command"] is None else tuple(service["command"]))
        assert read.environment == service["environment"]
        assert read.ports == tuple(service["ports"])
        assert read.mounts == tuple(service["mounts"])
        assert list(read.depends_on) == service["depends_on"]
        assert read.read_only is service["read_only"]


_SOUP_WORDS = """services web image : [ ] { } &a *a << !!str ' " | > $ $$ # x- ports volumes 1 ~ --- ... %YAML 1.1 ?"""
_SOUP = st.lists(
    st.sampled_from([*_SOUP_WORDS.split(" "), ": ", "\n", "  ", "- ", "? ", "\t", "\u2028", "\ufeff", "\x07"]),
    max_size=40,
).map("".join)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200) | _SOUP.map(str.encode))
def test_only_invalid_input_is_raised(data: bytes) -> None:
    for parse in (parse_compose_file, parse_manifest):
        raised: list[InvalidInput] = []
        try:
            parse(data)
        except InvalidInput as error:
            raised.append(error)
        assert all("\n" not in str(error) and error.where is not None for error in raised)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | _TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_TEXT, inner, max_size=3),
    max_leaves=8,
)
_EXTRA = st.dictionaries(_NAMES.map(lambda name: f"future-{name}"), _JSON, max_size=3)
_HEX = st.from_regex(r"[0-9a-f]{64}", fullmatch=True)
_APPS = st.builds(
    App,
    image=st.builds(AppImage, reference=_NAMES, commit=_HEX, digest=_HEX.map(lambda text: f"sha256:{text}")),
    command=st.none() | st.lists(_TEXT, max_size=3).map(tuple),
    environment=_VARIABLES,
    ports=st.lists(_PORTS, max_size=2).map(tuple),
    mounts=st.lists(_MOUNTS, max_size=2).map(tuple),
    read_only=st.booleans(),
    config=st.none() | _HEX,
    extra=_EXTRA,
)


@settings(max_examples=40, deadline=None)
@given(st.dictionaries(_NAMES, _APPS, max_size=3), _EXTRA)
def test_revision_json_survives_a_round_trip(apps: dict[str, App], extra: dict[str, Any]) -> None:
    revision = Revision(format=1, name="kiosk", apps=apps, extra=extra)
    data = serialize_revision(revision)
    assert parse_revision(data) == revision
    assert serialize_revision(parse_revision(data)) == data


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=100) | _JSON.map(lambda value: yaml.safe_dump(value).encode()))
def test_revision_json_from_outside(data: bytes) -> None:
    with contextlib.suppress(InvalidInput, Unsupported):
        parse_revision(data)
