"""What ``config`` prints reads back to the same project, whatever the project."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from wherry.engine.compose import dump
from wherry.engine.compose.loading import Request, load
from wherry.engine.compose.merge import merge
from wherry.engine.compose.model import Project
from wherry.engine.compose.services import config_hash
from wherry.engine.state import Paths

NAMES = st.from_regex(r"[a-z][a-z0-9_.-]{0,8}", fullmatch=True)
TEXTS = st.text(st.characters(blacklist_categories=("Cs", "Cc")), min_size=1, max_size=20)
KEYS = st.from_regex(r"[A-Z_][A-Z0-9_]{0,6}", fullmatch=True)
PATHS = st.from_regex(r"/[a-z]{1,6}(/[a-z]{1,4})?", fullmatch=True)
PORTS = st.integers(1, 65535)

PORT = st.builds(
    lambda target, published, protocol, ip: {
        "target": target,
        "protocol": protocol,
        **({"published": str(published)} if published else {}),
        **({"host_ip": ip} if ip else {}),
    },
    PORTS,
    st.integers(0, 65535),
    st.sampled_from(["tcp", "udp"]),
    st.sampled_from(["", "127.0.0.1", "::1"]),
)

SERVICE: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
    {"image": st.sampled_from(["a", "b:1", "r.example/c@sha256:" + "0" * 64])},
    optional={
        "command": st.lists(TEXTS, max_size=3),
        "entrypoint": st.lists(TEXTS, max_size=2),
        "environment": st.dictionaries(KEYS, st.one_of(st.just(""), TEXTS), max_size=3),
        "labels": st.dictionaries(KEYS, TEXTS, max_size=3),
        "ports": st.lists(PORT, max_size=3),
        "volumes": st.lists(
            st.builds(lambda source, target: {"type": "bind", "source": source, "target": target}, PATHS, PATHS),
            max_size=2,
        ),
        "tmpfs": st.lists(PATHS, max_size=2),
        "cap_add": st.lists(st.sampled_from(["NET_ADMIN", "ALL", "KILL"]), max_size=2, unique=True),
        "scale": st.integers(0, 5),
        "read_only": st.booleans(),
        "restart": st.sampled_from(["no", "always", "on-failure:3"]),
        "stop_grace_period": st.sampled_from(["1s", "1m30s", "500ms"]),
        "mem_limit": st.integers(1 << 23, 1 << 40).map(str),
        "cpus": st.sampled_from(["0.5", "2", "1.25"]),
        "healthcheck": st.fixed_dictionaries({"test": TEXTS.map(lambda text: ["CMD-SHELL", text])}),
        "ulimits": st.dictionaries(st.sampled_from(["nofile", "nproc"]), st.integers(1, 9), max_size=2),
        "profiles": st.just(["x"]),
        "networks": st.sampled_from([["default"], ["back"], {"back": {"aliases": ["y"]}, "default": None}]),
        "deploy": st.just({"replicas": 2, "resources": {"limits": {"memory": "64m"}}}),
    },
)  # fmt: skip
MODEL = st.builds(
    lambda services: {"services": services, "networks": {"back": {"internal": True}}, "volumes": {"v": None}},
    st.dictionaries(NAMES, SERVICE, min_size=1, max_size=3),
)


def read(text: str) -> Project:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "compose.yaml"
        path.write_text(text, encoding="utf-8")
        return load(Request(cwd="/", directory="/project", files=(str(path),), name="p", profiles=("*",)))


@settings(max_examples=60, deadline=None)
@given(MODEL)
def test_config_reads_back(model: dict[str, Any]) -> None:
    first = read(dump.to_yaml(dump._escaped(model)))
    printed = dump.to_yaml(dump.model(first))
    second = read(printed)
    assert dump.to_yaml(dump.model(second)) == printed
    paths = Paths(Path("/root-of-engine"), Path("/run-of-engine"))
    for name in first.services:
        assert config_hash(paths, first, name) == config_hash(paths, second, name)


TREES: st.SearchStrategy[Any] = st.recursive(
    st.one_of(st.integers(), TEXTS), lambda inner: st.dictionaries(NAMES, inner, max_size=3), max_leaves=8
)


@given(st.dictionaries(NAMES, TREES, max_size=4), st.dictionaries(NAMES, TREES, max_size=4))
def test_merging(base: dict[str, Any], over: dict[str, Any]) -> None:
    merged = merge(base, over)
    assert set(merged) == {*base, *over}
    assert merge(merged, over) == merged, "laid over twice is laid over once"
    assert merge({}, over) == over
    assert merge(base, {}) == base
