"""A record of a build has all that went into it, says nothing of this machine, and is what its standards say."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import pytest
from tests.unit.build.support import made

from wherry.build.provenance import (
    Material,
    Record,
    layer_materials,
    package_material,
    parse,
    provenance,
    serialize,
    without_places,
)
from wherry.core.errors import InvalidInput

A, B, C = "a" * 64, "b" * 64, "c" * 64
RESOURCE: dict[str, Any] = {
    "type": "object",
    "additionalProperties": False,
    "properties": {
        "name": {"type": "string"},
        "uri": {"type": "string", "pattern": "^[a-z][a-z0-9+.-]*:[^ ]+$"},
        "digest": {
            "type": "object",
            "minProperties": 1,
            "patternProperties": {"^sha256$": {"type": "string", "pattern": "^[0-9a-f]{64}$"}},
            "additionalProperties": False,
        },
    },
    "anyOf": [{"required": ["uri"]}, {"required": ["digest"]}],
}
SCHEMA = {
    "type": "object",
    "additionalProperties": False,
    "required": ["_type", "subject", "predicateType", "predicate"],
    "properties": {
        "_type": {"const": "https://in-toto.io/Statement/v1"},
        "subject": {"type": "array", "minItems": 1, "items": {**RESOURCE, "required": ["name", "digest"]}},
        "predicateType": {"const": "https://slsa.dev/provenance/v1"},
        "predicate": {
            "type": "object",
            "additionalProperties": False,
            "required": ["buildDefinition", "runDetails"],
            "properties": {
                "buildDefinition": {
                    "type": "object",
                    "additionalProperties": False,
                    "required": ["buildType", "externalParameters"],
                    "properties": {
                        "buildType": {"type": "string", "format": "uri", "pattern": "^[a-z]+:"},
                        "externalParameters": {"type": "object"},
                        "internalParameters": {"type": "object"},
                        "resolvedDependencies": {"type": "array", "items": RESOURCE},
                    },
                },
                "runDetails": {
                    "type": "object",
                    "additionalProperties": False,
                    "required": ["builder"],
                    "properties": {
                        "builder": {
                            "type": "object",
                            "additionalProperties": False,
                            "required": ["id"],
                            "properties": {
                                "id": {"type": "string", "pattern": "^[a-z]+:"},
                                "version": {"type": "object", "additionalProperties": {"type": "string"}},
                                "builderDependencies": {"type": "array", "items": RESOURCE},
                            },
                        },
                        "metadata": {"type": "object"},
                        "byproducts": {"type": "array", "items": RESOURCE},
                    },
                },
            },
        },
    },
}

RECORD = Record(
    name="kiosk",
    builder="debian",
    architecture="arm64",
    target=("virt/qemu",),
    layers=(Material(name="virt/qemu", uri="urn:wherry:layer:virt/qemu", sha256=A),),
    host_file={"target": ["virt/qemu"], "layers_path": ["/home/me/layers"], "debian": {"suite": "bookworm"}},
    packages=(
        package_material("libstdc++6", "1:12.2-1", "arm64", C, distribution="debian"),
        package_material("bash", "5.2-1", "arm64", B, distribution="debian"),
    ),
    sources=(Material(name="linux", version="6.1", sha256=A),),
    tools={"mmdebstrap": "1.3.5"},
    epoch=1577836800,
    commit=A,
    images={"images/disk.img": B},
)


def test_it_is_what_the_standards_say() -> None:
    statement = provenance(RECORD)
    jsonschema.validate(statement, SCHEMA)
    assert parse(serialize(statement)) == statement
    broken = json.loads(json.dumps(statement))
    del broken["subject"][0]["digest"]
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(broken, SCHEMA)


def test_it_has_everything() -> None:
    statement = provenance(RECORD)
    assert statement["subject"] == [
        {"name": "host/kiosk", "digest": {"sha256": A}},
        {"name": "images/disk.img", "digest": {"sha256": B}},
    ]
    definition = statement["predicate"]["buildDefinition"]
    assert [item["uri"] for item in definition["resolvedDependencies"]] == [
        "urn:wherry:layer:virt/qemu",
        "pkg:deb/debian/bash@5.2-1?arch=arm64",
        "pkg:deb/debian/libstdc%2B%2B6@1%3A12.2-1?arch=arm64",
        "pkg:generic/linux@6.1",
    ]
    assert definition["internalParameters"] == {"SOURCE_DATE_EPOCH": 1577836800}
    assert definition["externalParameters"]["host"] == {"target": ["virt/qemu"], "debian": {"suite": "bookworm"}}
    assert statement["predicate"]["runDetails"]["builder"]["version"]["mmdebstrap"] == "1.3.5"


def test_the_order_of_packages_does_not_count() -> None:
    other = replace(RECORD, packages=RECORD.packages[::-1])
    assert serialize(provenance(other)) == serialize(provenance(RECORD))


def test_inside_a_commit_it_is_about_the_tree() -> None:
    inside = replace(RECORD, commit="", tree=C, images={})
    assert provenance(inside)["subject"] == [{"name": "host/kiosk/root", "digest": {"sha256": C}}]
    with pytest.raises(InvalidInput, match="is about a commit"):
        provenance(replace(inside, tree=""))


def test_equal_layers_elsewhere_are_equal(tmp_path: Path) -> None:
    one = layer_materials(made(tmp_path / "one", {"a/b": ""}).by_name.values())
    two = layer_materials(made(tmp_path / "two", {"a/b": ""}).by_name.values())
    assert one == two
    assert len(one) == 1
    overlay = tmp_path / "two/a/b/root_overlay"
    overlay.mkdir()
    (overlay / "file").write_text("x")
    assert layer_materials(made(tmp_path / "two", {}).by_name.values()) != one


def test_places_are_left_out() -> None:
    value = {
        "buildroot": {"path": "/home/me/br", "ccache": "~/c", "note": "/data stays"},
        "layers_path": ["../layers", "/srv/layers"],
        "images": [{"path": "file:///x", "name": "disk"}],
    }
    assert without_places(value) == {
        "buildroot": {"note": "/data stays"},
        "layers_path": ["../layers"],
        "images": [{"name": "disk"}],
    }


@pytest.mark.parametrize(
    "record",
    [
        replace(RECORD, commit="A" * 64),
        replace(RECORD, images={"x": "12"}),
        replace(RECORD, sources=(Material(name="linux", sha256="zz"),)),
        replace(RECORD, sources=(Material(name="linux", uri="/tmp/linux.tar"),)),
    ],
)
def test_bad_records(record: Record) -> None:
    with pytest.raises(InvalidInput):
        provenance(record)


@pytest.mark.parametrize(
    "data",
    [b"", b"[]", b"{}", b'{"_type":"https://in-toto.io/Statement/v1","predicateType":"x","predicate":{}}'],
)
def test_bad_statements(data: bytes) -> None:
    with pytest.raises(InvalidInput):
        parse(data)


def test_a_statement_about_something_else() -> None:
    other = provenance(RECORD)
    other["predicate"]["buildDefinition"]["buildType"] = "https://example.org/other"
    with pytest.raises(InvalidInput, match="not about a build of a host"):
        parse(serialize(other))
