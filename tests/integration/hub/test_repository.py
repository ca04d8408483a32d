"""The hub's repository over real HTTP: reading it as any OSTree client does, and writing to it."""

from __future__ import annotations

import hashlib
import os
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from tests.integration.hub.conftest import (
    Device,
    HubProcess,
    make_revision,
    objects_of,
    pack_bytes,
    push,
    send_pack,
)

from wherry.core.digest import Checksum
from wherry.core.errors import HttpError
from wherry.core.http import HttpClient
from wherry.spec.wire import PACK_TYPE
from wherry.store.format.objects import FileHeader, Mode
from wherry.store.repository import Repository
from wherry.store.tree.mutable import TreeBuilder


def raw_status(hub: HubProcess, target: str, token: str) -> int:
    """Sends a request line as it is: no client tidies the path up."""
    parts = urlsplit(hub.url)
    with socket.create_connection((parts.hostname or "", parts.port or 0), timeout=10) as link:
        request = f"GET {target} HTTP/1.1\r\nHost: hub\r\nAuthorization: Bearer {token}\r\nConnection: close\r\n\r\n"
        link.sendall(request.encode())
        return int(link.makefile("rb").readline().split()[1])


@pytest.fixture
def pushed(hub: HubProcess, repo: Repository) -> tuple[HttpClient, str, str]:
    person = hub.login()
    commit, component = make_revision(repo, page=os.urandom(700_000))
    push(person, repo, commit, component)
    return person, commit, component


def test_ranges(hub: HubProcess, pushed: tuple[HttpClient, str, str]) -> None:
    person, commit, _ = pushed
    objects = hub.path / "repo" / "objects"
    largest = max(objects.glob("*/*.filez"), key=lambda path: path.stat().st_size)
    data = largest.read_bytes()
    path = f"/repo/objects/{largest.parent.name}/{largest.name}"
    for asked, status, expected in (
        (None, 200, data),
        ("bytes=0-99", 206, data[:100]),
        (f"bytes={len(data) - 10}-", 206, data[-10:]),
        ("bytes=300000-599999", 206, data[300000:600000]),
        ("bytes=-7", 206, data[-7:]),
        (f"bytes=5-{len(data) * 2}", 206, data[5:]),
        ("bytes=9-3", 200, data),
        ("bytes=0-1,5-6", 200, data),
        ("lines=1-2", 200, data),
        (f"bytes={len(data)}-", 416, None),
        ("bytes=-0", 416, None),
    ):
        with person.open("GET", path, headers={"Range": asked} if asked else {}) as response:
            body = response.read_all()
            assert response.status == status, asked
            if expected is not None:
                assert body == expected, asked
            if status == 206:
                assert response.headers["Content-Range"].endswith(f"/{len(data)}")
            if status == 416:
                assert response.headers["Content-Range"] == f"bytes */{len(data)}"
    with person.open("HEAD", path) as response:
        assert (response.status, int(response.headers["Content-Length"])) == (200, len(data))
        assert "immutable" in response.headers["Cache-Control"]
        tag = response.headers["ETag"]
    with person.open("GET", path, headers={"If-None-Match": tag}) as response:
        assert response.status == 304
    with person.open("GET", path, headers={"If-Range": '"other"', "Range": "bytes=0-1"}) as response:
        assert response.status == 200
        response.read_all()
    with person.open("GET", f"/repo/objects/{commit[:2]}/{commit[2:]}.commit") as response:
        assert hashlib.sha256(response.read_all()).hexdigest() == commit


def test_nothing_outside_can_be_named(hub: HubProcess, pushed: tuple[HttpClient, str, str]) -> None:
    person, _, _ = pushed
    token = person.token or ""
    (hub.path / "repo" / "refs" / "heads" / "leak").symlink_to(hub.path / "secret.key")
    os.mkfifo(hub.path / "repo" / "refs" / "heads" / "pipe")
    for target in (
        "/repo/../secret.key",
        "/repo/%2e%2e/secret.key",
        "/repo/..%2fsecret.key",
        "/repo/refs/heads/../../../secret.key",
        "/repo//etc/passwd",
        "/repo/%2fetc%2fpasswd",
        "/repo/objects/../../hub.db",
        "/repo/config%00.txt",
        "/repo/config/",
        "/repo/.lock",
        "/repo/tmp",
        "/repo/",
        "/repo/refs/heads/leak",
        "/repo/refs/heads/pipe",
        "/repo/refs/heads",
        "/repo/objects/zz/" + "0" * 62 + ".filez",
        "/static/../dashboard.py",
        "/static/%2e%2e/dashboard.py",
    ):
        assert raw_status(hub, target, token) == 404, target
    assert raw_status(hub, "/repo/config", token) == 200
    assert raw_status(hub, "/repo/config", "nonsense") == 401


def test_devices_may_read_and_pending_ones_not(
    pushed: tuple[HttpClient, str, str], make_device: Callable[..., Device]
) -> None:
    device = make_device()
    with device.client.get("/repo/config") as response:
        assert b"archive-z2" in response.read_all()
    device.client.token = None
    with pytest.raises(HttpError) as refused, device.client.get("/repo/config"):
        pass
    assert refused.value.status == 401


def test_ostree_pulls_and_fsck_passes(hub: HubProcess, pushed: tuple[HttpClient, str, str], tmp_path: Path) -> None:
    person, commit, component = pushed
    subprocess.run(["ostree", "fsck", f"--repo={hub.path}/repo"], check=True)
    client = f"--repo={tmp_path}/client"
    url = hub.url.replace("http://", f"http://any:{person.token}@")
    subprocess.run(["ostree", "init", client, "--mode=bare-user"], check=True)
    subprocess.run(
        ["ostree", "remote", "add", client, "--no-sign-verify", "--no-gpg-verify", "hub", f"{url}/repo"], check=True
    )
    subprocess.run(["ostree", "pull", client, "hub", "revision/kiosk"], check=True)
    found = subprocess.run(
        ["ostree", "rev-parse", client, "hub:revision/kiosk"], check=True, capture_output=True
    ).stdout.decode()
    assert found.strip() == commit
    subprocess.run(["ostree", "pull", client, "hub", component], check=True)
    subprocess.run(["ostree", "fsck", client], check=True)


def test_ostree_pulls_with_a_bearer_header(
    hub: HubProcess, pushed: tuple[HttpClient, str, str], tmp_path: Path
) -> None:
    person, commit, _ = pushed
    client = f"--repo={tmp_path}/client"
    subprocess.run(["ostree", "init", client, "--mode=archive"], check=True)
    subprocess.run(
        ["ostree", "remote", "add", client, "--no-sign-verify", "--no-gpg-verify", "hub", f"{hub.url}/repo"], check=True
    )
    header = f"--http-header=Authorization=Bearer {person.token}"
    subprocess.run(["ostree", "pull", client, header, "--mirror", "hub", "revision/kiosk"], check=True)
    assert (tmp_path / "client" / "refs" / "heads" / "revision" / "kiosk").read_text().strip() == commit


def test_sizes_and_missing(
    pushed: tuple[HttpClient, str, str], repo: Repository, make_device: Callable[..., Device]
) -> None:
    person, commit, component = pushed
    objects = objects_of(repo, Checksum(commit), Checksum(component))
    names = [name for name, _ in objects]
    absent = "00/" + "0" * 62 + ".filez"
    assert person.json("POST", "/api/v1/repo/missing", {"objects": [absent, *names]}) == {"objects": [absent]}
    found = make_device().client.json("POST", "/api/device/v1/sizes", {"objects": [absent, *names]})
    assert found["missing"] == [absent]
    assert found["transfer_bytes"] == sum(len(data) for _, data in objects)
    assert found["disk_bytes"] > 700_000


def test_ref_moves_only_onto_whole_revisions(hub: HubProcess, repo: Repository) -> None:
    person = hub.login()
    commit, component = make_revision(repo)
    objects = objects_of(repo, commit, component)

    def move(target: str, expected: str | None = None, ref: str = "revision/kiosk") -> int:
        try:
            person.json("PUT", f"/api/v1/repo/refs/{ref}", {"commit": target, "expected": expected})
        except HttpError as error:
            return error.status
        return 204

    assert move(commit) == 409  # not here at all
    leaf = next(name for name, _ in objects if name.endswith(".filez"))
    send_pack(person, pack_bytes(item for item in objects if item[0] != leaf))
    assert move(commit) == 409
    subprocess.run(["ostree", "fsck", f"--repo={hub.path}/repo"], check=True)  # partial commits are marked so
    assert person.json("GET", "/api/v1/revisions") == {"revisions": []}
    send_pack(person, pack_bytes(item for item in objects if item[0] == leaf))
    assert move(commit, expected="0" * 64) == 409
    assert move(component) == 409  # a commit, but no revision
    assert move(commit, ref="heads/other") == 422
    assert move(commit, ref="revision/..%2f..%2fx") in (404, 422)
    assert move(commit) == 204
    assert move(commit) == 204  # sent again since its answer was lost
    subprocess.run(["ostree", "fsck", f"--repo={hub.path}/repo"], check=True)
    assert not list((hub.path / "repo" / "state").iterdir())


def test_what_is_wrong_in_a_pack_is_named_and_what_was_good_stays(hub: HubProcess, repo: Repository) -> None:
    person = hub.login()
    commit, component = make_revision(repo)
    objects = objects_of(repo, commit, component)
    files = [item for item in objects if item[0].endswith(".filez")]
    (good, data), (name, other) = files[0], files[1]
    for body, expected in (
        (pack_bytes([(good, data), (name, data)]), "Corrupted file object"),
        (pack_bytes([(name, other[:-1])]), "cut short"),
        (pack_bytes([(name, other)])[:-1], "inside an object"),
        (pack_bytes([("../../etc/passwd", b"x")]), "not the name"),
        (pack_bytes([(name.replace(".filez", ".file"), other)]), "this kind"),
        (b"\xff\xff\0", "a name of 65535 bytes"),
    ):
        with pytest.raises(HttpError, match=expected) as refused:
            send_pack(person, body)
        assert refused.value.status == 422
    assert person.json("POST", "/api/v1/repo/missing", {"objects": [good, name]}) == {"objects": [name]}
    answer = send_pack(person, pack_bytes([(good, data), (name, other)]))
    assert (answer["stored"], answer["present"]) == (1, 1)


def test_kill_in_the_middle_of_a_pack(hub: HubProcess, repo: Repository) -> None:
    person = hub.login()
    commit, component = make_revision(repo, page=os.urandom(3_000_000))
    objects = objects_of(repo, commit, component)
    # Commits first, so that there is something to mark partial; then half of a large file, and silence.
    objects.sort(key=lambda item: (not item[0].endswith(".commit"), len(item[1])))
    body = pack_bytes(objects)
    parts = urlsplit(hub.url)
    with socket.create_connection((parts.hostname or "", parts.port or 0)) as link:
        head = (
            f"POST /api/v1/repo/pack HTTP/1.1\r\nHost: hub\r\nAuthorization: Bearer {person.token}\r\n"
            f"Content-Type: {PACK_TYPE}\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        link.sendall(head.encode() + body[:-500_000])
        deadline = time.monotonic() + 10
        while not list((hub.path / "repo" / "tmp").glob("staging-*/??/*.commit")):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        hub.stop(9)
    subprocess.run(["ostree", "fsck", f"--repo={hub.path}/repo"], check=True)
    hub.start()
    assert person.json("GET", "/api/v1/revisions") == {"revisions": []}
    push(person, repo, commit, component)
    subprocess.run(["ostree", "fsck", f"--repo={hub.path}/repo"], check=True)
    assert not list((hub.path / "repo" / "tmp").glob("staging-*"))


def test_a_large_pack_needs_little_memory(hub: HubProcess, tmp_path: Path) -> None:
    person = hub.login()
    source = Repository.init(tmp_path / "large", Mode.ARCHIVE)
    with source.transaction():
        tree = TreeBuilder(source)
        for number in range(6):
            block = os.urandom(1_000_000) * 24
            tree.add_file(f"file-{number}", FileHeader(uid=0, gid=0, mode=0o100644), block)
        tree.write()
    files = sorted(source.objects_dir.glob("*/*.filez"))
    assert hub.process is not None
    before = resident_kb(hub.process.pid)
    send_pack(person, pack_bytes((f"{path.parent.name}/{path.name}", path.read_bytes()) for path in files))
    peak = peak_kb(hub.process.pid)
    assert peak - before < 64 * 1024, (before, peak)


def resident_kb(pid: int) -> int:
    return _status(pid, "VmRSS")


def peak_kb(pid: int) -> int:
    return _status(pid, "VmHWM")


def _status(pid: int, field: str) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1])
    raise AssertionError(field)


def test_prune_spares_components(hub: HubProcess, repo: Repository) -> None:
    """They have no refs: the hub tells the store of them before a ref leads to them, and again when it starts."""
    person = hub.login()
    commit, component = make_revision(repo, page=os.urandom(10_000))
    push(person, repo, commit, component)
    kept = hub.path / "repo/extensions/wherry/keep/hub"
    assert kept.read_text() == f"{component}\n"
    kept.unlink()
    hub.stop()
    hub.start()
    assert kept.read_text() == f"{component}\n"
    count = len(list((hub.path / "repo/objects").glob("*/*")))
    hub.wherry("store", "prune", f"--repo={hub.path}/repo", "--refs-only")
    assert len(list((hub.path / "repo/objects").glob("*/*"))) == count
    assert hub.login().json(
        "POST", "/api/v1/repo/missing", {"objects": [name for name, _ in objects_of(repo, commit, component)]}
    ) == {"objects": []}
