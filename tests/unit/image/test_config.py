"""Image configs: what is read, what is refused, what survives."""

from __future__ import annotations

import json
from typing import Any

import pytest

from wherry.core.errors import InvalidInput
from wherry.image.config import make_config, parse_config, parse_time
from wherry.spec.container import Healthcheck

FULL = {
    "architecture": "arm",
    "os": "linux",
    "variant": "v7",
    "created": "2026-03-01T10:20:30.123456789Z",
    "config": {
        "User": "1000:1000",
        "ExposedPorts": {"80/tcp": {}, "53/udp": {}},
        "Env": ["PATH=/bin", "EMPTY="],
        "Entrypoint": ["/init"],
        "Cmd": ["serve", "now"],
        "Volumes": {"/data": {}},
        "WorkingDir": "/srv",
        "Labels": {"a": "b"},
        "StopSignal": "SIGQUIT",
        "Healthcheck": {"Test": ["CMD", "true"], "Interval": 1_500_000_000, "Timeout": 1, "Retries": 5},
    },
    "rootfs": {"type": "layers", "diff_ids": ["sha256:" + "1" * 64]},
    "history": [{"created_by": "somebody"}],
    "com.example.unknown": [1, 2],
}


def test_everything_is_read() -> None:
    raw = json.dumps(FULL).encode()
    config = parse_config(raw)
    assert config.platform == "linux/arm/v7"
    assert config.created_s == 1772360430
    assert config.entrypoint == ("/init",)
    assert config.cmd == ("serve", "now")
    assert config.env == ("PATH=/bin", "EMPTY=")
    assert config.user == "1000:1000"
    assert config.working_dir == "/srv"
    assert config.exposed_ports == ("53/udp", "80/tcp")
    assert config.volumes == ("/data",)
    assert config.labels == {"a": "b"}
    assert config.stop_signal == "SIGQUIT"
    assert config.healthcheck == Healthcheck(test=("CMD", "true"), interval_ms=1500, timeout_ms=1, retries=5)
    assert config.diff_ids == ("sha256:" + "1" * 64,)
    assert config.raw == raw
    assert config.document() == FULL


def test_nulls_are_absent() -> None:
    config = parse_config(b'{"config":{"Cmd":null,"Env":null,"Labels":null,"Healthcheck":null},"created":null}')
    assert config.cmd is None
    assert config.env == ()
    assert config.healthcheck is None
    assert config.created_s == 0
    assert parse_config(b'{"config":{"Entrypoint":"/old"}}').entrypoint == ("/old",)
    assert parse_config(b'{"config":{"Cmd":[]}}').cmd == ()


@pytest.mark.parametrize(
    ("document", "what"),
    [
        ([], "must be an object"),
        ({"config": []}, "config: must be an object"),
        ({"config": {"Env": "A=b", "Cmd": [1]}}, "config.Cmd: must be a list of strings"),
        ({"config": {"Env": ["A"]}}, "config.Env: not NAME=VALUE"),
        ({"config": {"Env": ["=A"]}}, "config.Env: not NAME=VALUE"),
        ({"config": {"User": 0}}, "config.User: must be a string"),
        ({"config": {"Cmd": ["a\0b"]}}, "config.Cmd"),
        ({"config": {"Labels": {"a": 1}}}, "config.Labels.a: must be a string"),
        ({"config": {"Healthcheck": {"Test": ["CMD"], "Retries": -1}}}, "config.Healthcheck.Retries"),
        ({"rootfs": {"diff_ids": ["sha256:12"]}}, "not a sha256 digest"),
        ({"rootfs": {"diff_ids": ["sha256:" + "1" * 64] * 513}}, "more than 512 layers"),
        ({"created": "yesterday"}, "RFC 3339"),
    ],
)
def test_refused(document: Any, what: str) -> None:
    with pytest.raises(InvalidInput, match=what.replace(".", r"\.")):
        parse_config(json.dumps(document).encode(), where="blob")


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("0001-01-01T00:00:00Z", 0),
        ("1970-01-01T01:00:00+01:00", 0),
        ("2001-09-09T01:46:40.5Z", 1_000_000_000),
    ],
)
def test_times(text: str, seconds: int) -> None:
    assert parse_time(text) == seconds


def test_a_made_config_is_the_same_bytes() -> None:
    first, second = make_config(FULL), make_config(dict(reversed(list(FULL.items()))))
    assert first == second
    assert first.digest == second.digest
