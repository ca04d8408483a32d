"""Differences in the words of apps and files."""

from __future__ import annotations

import dataclasses

import pytest

from wherry.core.digest import Checksum
from wherry.core.value import replace
from wherry.revision.compare import State, compare, describe_app
from wherry.revision.files import Entry, Kind
from wherry.spec.container import (
    App,
    AppImage,
    Healthcheck,
    Mount,
    MountType,
    PortMapping,
    Resources,
    RestartName,
    RestartPolicy,
)
from wherry.spec.revision import HealthPolicy, Revision

_IMAGE = AppImage(reference="web:1.0", commit="1" * 64, digest="sha256:" + "ab" * 32)
_APP = App(image=_IMAGE, environment={"A": "1", "B": "2"}, ports=(PortMapping(container_port=80, host_port=8080),))


def _state(revision: Revision | None, files: dict[str, bytes] | None = None, kind: Kind = Kind.FILE) -> State:
    found = files or {}
    entries = {path: Entry(checksum=Checksum(str(hash(data)) + kind), kind=kind) for path, data in found.items()}
    return State(files=entries, read=found.get, revision=revision)


def _revision(**apps: App) -> Revision:
    return Revision(format=1, name="kiosk", apps=apps)


@pytest.mark.parametrize(
    ("new", "phrases"),
    [
        (
            replace(_APP, image=replace(_IMAGE, reference="web:1.1", digest="sha256:" + "cd" * 32)),
            ["image web:1.0 (sha256:abababababab) -> web:1.1 (sha256:cdcdcdcdcdcd)"],
        ),
        (
            replace(_APP, image=replace(_IMAGE, digest="")),
            ["image web:1.0 (sha256:abababababab) -> web:1.0 (not here)"],
        ),
        (
            replace(_APP, environment={"B": "3", "C": "4"}),
            ["environment A removed", "environment B: 2 -> 3", "environment C added: 4"],
        ),
        (
            replace(_APP, ports=(PortMapping(container_port=53, host_ip="127.0.0.1", protocol="udp"),)),
            ["port 8080:80/tcp removed", "port 127.0.0.1::53/udp added"],
        ),
        (replace(_APP, command=("a", "b c")), ['command (image\'s) -> ["a", "b c"]']),
        (replace(_APP, entrypoint=()), ["entrypoint (image's) -> []"]),
        (replace(_APP, user="1000"), ["user (image's) -> 1000"]),
        (
            replace(
                _APP,
                mounts=(
                    Mount(type=MountType.VOLUME, source="data", target="/d", read_only=True),
                    Mount(type=MountType.TMPFS, target="/t", tmpfs_size_bytes=1000, tmpfs_mode=0o1777),
                ),
            ),
            ["mount data:/d:ro added", "mount tmpfs:/t size 1 kB mode 1777 added"],
        ),
        (
            replace(_APP, healthcheck=Healthcheck(test=("CMD", "x"), interval_ms=1500)),
            ["healthcheck added: test CMD x, interval 1.5s"],
        ),
        (
            replace(_APP, restart=RestartPolicy(name=RestartName.ON_FAILURE, max_retries=3)),
            ["restart max_retries (default) -> 3", "restart name (default) -> on-failure"],
        ),
        (
            replace(_APP, resources=Resources(memory_bytes=64_000_000, milli_cpus=500)),
            ["limit memory (default) -> 64 MB", "limit cpus (default) -> 0.5"],
        ),
        (replace(_APP, cap_add=("NET_ADMIN",), read_only=True), ["cap_add NET_ADMIN added", "read_only false -> true"]),
        (replace(_APP, network_mode="host"), ["network_mode bridge -> host"]),
        (replace(_APP, config="2" * 64), ["config added"]),
        (replace(_APP, depends_on={"db": "service_healthy"}), ["depends_on db added: service_healthy"]),
        (replace(_APP, extra={"future": 1}), ["further settings changed: future"]),
    ],
)
def test_an_app_that_changed(new: App, phrases: list[str]) -> None:
    found = compare(_state(_revision(web=_APP)), _state(_revision(web=new)))
    assert found
    assert [change.kind for change in found.apps] == ["changed"]
    assert list(found.apps[0].changes) == phrases


def test_apps_that_come_and_go() -> None:
    found = compare(_state(_revision(old=_APP)), _state(_revision(new=replace(_APP, config="2" * 64))))
    added, removed = found.apps
    assert (added.app, added.kind, removed.app, removed.kind) == ("new", "added", "old", "removed")
    assert added.changes == tuple(describe_app(replace(_APP, config="2" * 64)))
    assert added.changes == (
        "image web:1.0 (sha256:abababababab)",
        "environment A 1",
        "environment B 2",
        "port 8080:80/tcp",
        "files over /etc",
    )
    assert removed.changes == ("image web:1.0 (sha256:abababababab)",)


def test_the_project_itself() -> None:
    old = _revision()
    new = dataclasses.replace(
        old, name="panel", target="arm64", health=HealthPolicy(timeout_ms=60_000, require_hub=False)
    )
    assert compare(_state(old), _state(new)).project == (
        "name kiosk -> panel",
        "target (any) -> arm64",
        "health timeout 120s -> 60s",
        "health require_hub true -> false",
    )
    assert not compare(_state(None), _state(old)).project
    assert not compare(_state(old), _state(old))


def test_a_state_without_apps_is_said_to_be_so() -> None:
    broken = dataclasses.replace(_state(None), problem="compose.yaml:1:1")
    found = compare(_state(_revision(web=_APP)), broken)
    assert (found.apps, found.problem) == ((), "compose.yaml:1:1")


def test_files() -> None:
    old = {"same": b"x\n", "gone": b"bye\n", "text": b"a\nb\nc", "binary": b"\0\1", "large": b"x" * 300_000}
    new = {"same": b"x\n", "new": b"hi\n", "text": b"a\nB\nc\n", "binary": b"\0\2", "large": b"y" * 300_000}
    found = {change.path: change for change in compare(_state(None, old), _state(None, new)).files}
    assert {path: change.kind for path, change in found.items()} == {
        "binary": "changed",
        "gone": "removed",
        "large": "changed",
        "new": "added",
        "text": "changed",
    }
    assert found["binary"].lines_added is None
    assert found["large"].text == ""
    assert (found["text"].lines_added, found["text"].lines_removed) == (2, 2)
    assert found["text"].text.splitlines() == [
        "--- a/text",
        "+++ b/text",
        "@@ -1,3 +1,3 @@",
        " a",
        "-b",
        "-c",
        "\\ No newline at end of file",
        "+B",
        "+c",
    ]
    assert found["new"].text.startswith("--- /dev/null\n+++ b/new\n")
    assert found["gone"].text.splitlines()[-1] == "-bye"


def test_modes_and_types() -> None:
    old, new = _state(None, {"a": b"x"}), _state(None, {"a": b"x"}, Kind.EXECUTABLE)
    assert [change.kind for change in compare(old, new).files] == ["mode"]
    link = _state(None, {"a": b"target"}, Kind.LINK)
    assert [change.kind for change in compare(old, link).files] == ["type"]
