"""The hub as a process: starting, refusing, ending, and keeping its secrets."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import ssl
import stat
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
from tests.integration.hub.conftest import (
    PASSWORD,
    Device,
    HubProcess,
    Listener,
    make_revision,
    objects_of,
    pack_bytes,
    push,
    send_pack,
)

from wherry.core.errors import HttpError
from wherry.core.http import HttpClient
from wherry.spec.wire import UpdateState
from wherry.store.repository import Repository
from wherry.trust.keys import PrivateKey


def run(*args: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    hub = HubProcess(path=Path("/nowhere"))
    environment = {**hub.environment(), **(env or {})}
    return subprocess.run(hub.command(*args), env=environment, capture_output=True, text=True, check=False, timeout=60)


def test_init_keeps_secrets_to_itself(tmp_path: Path) -> None:
    done = run("hub", "init", str(tmp_path / "hub"), env={"WHERRY_HUB_PASSWORD": ""})
    assert done.returncode == 0, done.stderr
    password = re.search(r"^password: (\S{16,})$", done.stdout, re.MULTILINE)
    assert password is not None
    for name, mode in (("", 0o700), ("secret.key", 0o600), ("hub.db", 0o600)):
        assert stat.S_IMODE((tmp_path / "hub" / name).stat().st_mode) == mode, name
    assert password[1].encode() not in (tmp_path / "hub" / "hub.db").read_bytes()
    again = run("hub", "init", str(tmp_path / "hub"))
    assert again.returncode == 4
    assert "there is a hub already" in again.stderr


def test_users_and_tokens_from_the_command_line(hub: HubProcess) -> None:
    where = f"--dir={hub.path}"
    assert run("hub", "user", "add", where, "ann").returncode == 0
    assert run("hub", "user", "add", where, "ann").returncode == 4
    assert [one["name"] for one in json.loads(hub.wherry("hub", "user", "list", where, "--json"))] == ["admin", "ann"]
    client = HttpClient(hub.url)
    client.token = client.json("POST", "/api/v1/login", {"user": "ann", "password": PASSWORD})["token"]
    assert client.json("GET", "/api/v1/devices") == {"devices": []}
    assert run("hub", "user", "passwd", where, "ann", env={"WHERRY_HUB_PASSWORD": "another one 2"}).returncode == 0
    with pytest.raises(HttpError, match="401"):
        client.json("GET", "/api/v1/devices")
    token = hub.wherry("hub", "token", "create", where, "--uses=2", "--expires=10m").strip()
    listed = hub.wherry("hub", "token", "list", where)
    assert token not in listed
    hub.wherry("hub", "token", "revoke", where, listed.splitlines()[1].split()[0])
    with pytest.raises(HttpError, match="revoked"):
        Device(url=hub.url, key=PrivateKey.generate()).enrol(token)
    assert run("hub", "token", "revoke", where, "nothing").returncode == 3


def test_refusals_before_serving(hub: HubProcess, tmp_path: Path) -> None:
    where = f"--dir={hub.path}"
    second = run("hub", "serve", where, "--listen=127.0.0.1:0")
    assert second.returncode == 4
    assert "another process serves this hub" in second.stderr
    nowhere = run("hub", "serve", f"--dir={tmp_path}/none")
    assert nowhere.returncode == 3
    assert f"wherry hub init {tmp_path}/none" in nowhere.stderr
    address = hub.url.removeprefix("http://")
    hub.stop()
    with socket.create_server((address.split(":")[0], int(address.split(":")[1]))):
        taken = run("hub", "serve", where, f"--listen={address}")
    assert taken.returncode == 4
    assert "the port is in use" in taken.stderr
    assert run("hub", "serve", where, "--listen=nonsense").returncode == 5
    (hub.path / "secret.key").chmod(0o644)
    leaky = run("hub", "serve", where, "--listen=127.0.0.1:0")
    assert leaky.returncode == 10
    assert "chmod 600" in leaky.stderr
    for one in (second, nowhere, taken, leaky):
        assert one.stderr.count("\n") == 1, one.stderr


def test_a_database_of_the_future_is_not_touched(hub: HubProcess) -> None:
    import sqlite3

    hub.stop()
    with sqlite3.connect(hub.path / "hub.db") as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.close()
    done = run("hub", "serve", f"--dir={hub.path}", "--listen=127.0.0.1:0")
    assert done.returncode == 11
    assert "update Wherry" in done.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_cleanly(hub: HubProcess, make_device: Callable[..., Device], number: signal.Signals) -> None:
    listeners = [Listener(hub.login(), "/api/v1/events") for _ in range(3)]
    listeners.append(Listener(make_device().client, "/api/device/v1/events"))
    for listener in listeners:
        listener.wait(1)
    began = time.monotonic()
    assert hub.stop(number) == 0
    assert time.monotonic() - began < 4
    assert all(listener.ended.wait(2) for listener in listeners)


def test_secrets_are_not_logged(hub: HubProcess, make_device: Callable[..., Device]) -> None:
    person, device = hub.login(), make_device()
    device.desired()
    token = hub.token()
    httpx.get(f"{hub.url}/devices?secret-in-query=1")
    hub.stop()
    log = hub.log()
    assert '"path":"/api/device/v1/desired"' in log
    for secret in (PASSWORD, person.token, device.client.token, token, "secret-in-query"):
        assert str(secret) not in log


def test_too_many_wrong_passwords(hub: HubProcess) -> None:
    client = HttpClient(hub.url, tries=1)
    statuses = []
    for _ in range(7):
        with client.open("POST", "/api/v1/login", body=b'{"user":"admin","password":"wrong"}') as response:
            statuses.append(response.status)
    assert statuses == [401] * 5 + [429] * 2
    assert int(response.headers["Retry-After"]) > 0
    assert HttpClient(hub.url).json("GET", "/api/openapi.json")
    with pytest.raises(HttpError, match="429"):  # the right one does not help any more
        hub.login()


def test_logging_in_often_is_no_offence(hub: HubProcess) -> None:
    for _ in range(35):
        hub.login()


def test_bodies_that_are_too_long_or_no_messages(hub: HubProcess) -> None:
    person = hub.login()

    def status(method: str, path: str, body: bytes, content_type: str = "application/json") -> tuple[int, str]:
        with person.open(method, path, body=body, headers={"Content-Type": content_type}) as response:
            data = response.read_all()
            assert response.headers["Content-Type"].startswith(("application/json", "text/html"))
            return response.status, data.decode()

    assert status("POST", "/api/v1/login", b"x" * 2_000_000)[0] == 413
    assert status("POST", "/api/v1/repo/missing", b"x" * 5_000_000)[0] == 413
    form = "application/x-www-form-urlencoded"
    assert status("POST", "/login", b"user=" + b"x" * 200_000, form)[0] in (400, 413)
    for body, expected in (
        (b"", "not JSON"),
        (b"[]", "must be an object"),
        (b'{"user":"a"}', "'password' is missing"),
        (b'{"user":"a","password":"b","extra":1}', "unknown key 'extra'"),
        (b'{"user":1,"password":"b"}', "must be a string"),
        (b'{"user":"a","user":"b","password":"c"}', "stands twice"),
        (b"[" * 100_000, "not JSON"),
    ):
        code, text = status("POST", "/api/v1/login", body)
        assert code == 422, body[:40]
        assert expected in json.loads(text)["detail"]
    assert status("PUT", "/api/v1/devices/none/desired", b'{"revision":"x"}')[0] == 404
    assert status("POST", "/api/v1/repo/pack", b"", "text/plain")[0] == 422
    assert status("GET", "/api/v1/devices/x/history?limit=many", b"")[0] == 422
    assert status("DELETE", "/api/v1/login", b"")[0] == 405


def test_headers_of_every_answer(hub: HubProcess) -> None:
    for path in ("/login", "/api/v1/devices", "/repo/config", "/static/app.css", "/nothing"):
        answer = httpx.get(hub.url + path)
        assert "default-src 'none'" in answer.headers["content-security-policy"], path
        assert "unsafe" not in answer.headers["content-security-policy"]
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["x-frame-options"] == "DENY"
        assert "server" not in answer.headers


def log_in(browser: httpx.Client) -> None:
    answer = browser.post("/login", data={"user": "admin", "password": PASSWORD, "next": "//evil.example"})
    assert answer.status_code == 303
    assert answer.headers["location"] == "/devices"
    cookie = answer.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=lax" in cookie


def csrf_of(browser: httpx.Client) -> str:
    found = re.search(r'name="csrf" value="([0-9a-f]{64})"', browser.get("/devices").text)
    assert found is not None
    return found[1]


def test_forms_need_their_token(hub: HubProcess, make_device: Callable[..., Device]) -> None:
    device = make_device(accepted=False)
    with httpx.Client(base_url=hub.url) as browser:
        log_in(browser)
        path = f"/devices/{device.id}/accept"
        token = csrf_of(browser)
        assert browser.post(path).status_code == 403
        assert browser.post(path, data={"csrf": "0" * 64}).status_code == 403
        assert browser.post(path, data={"csrf": token}, headers={"Origin": "https://evil.example"}).status_code == 403
        assert browser.post(path, data={"csrf": token}, headers={"Sec-Fetch-Site": "cross-site"}).status_code == 403
        assert browser.post(f"/api/v1{path}").status_code == 403  # the cookie alone does not do for the API either
        assert browser.get("/api/v1/devices").json()["devices"][0]["state"] == "pending"
        assert browser.post(path, data={"csrf": token}).status_code == 303
        assert browser.get("/api/v1/devices").json()["devices"][0]["state"] == "accepted"
        assert browser.post(f"/api/v1/devices/{device.id}/reject", headers={"X-CSRF-Token": token}).status_code == 200
        assert browser.post("/logout", data={"csrf": token}).status_code == 303
        assert browser.get("/devices").headers["location"] == "/login?next=/devices"
    with httpx.Client(base_url=hub.url) as other:
        log_in(other)
        assert other.post(path, data={"csrf": token}).status_code == 403  # a token is of one session


def test_openapi_knows_the_messages(hub: HubProcess) -> None:
    found = httpx.get(f"{hub.url}/api/openapi.json").json()
    schemas = found["components"]["schemas"]
    for name in ("EnrolRequest", "Progress", "Desired", "DeviceInfo", "RefUpdate", "EnrolmentToken", "AppReport"):
        assert name in schemas, name
    body = found["paths"]["/api/device/v1/progress"]["post"]["requestBody"]
    assert body["content"]["application/json"]["schema"]["$ref"].endswith("/Progress")
    text = json.dumps(found)
    for reference in set(re.findall(r'"#/components/schemas/(\w+)"', text)):
        assert reference in schemas


def test_tls(start_hub: Callable[..., HubProcess], tmp_path: Path) -> None:
    key, cert = tmp_path / "hub.key", tmp_path / "hub.crt"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"),
            *("-days", "2", "-keyout", str(key), "-out", str(cert), "-subj", "/CN=localhost"),
            *("-addext", "subjectAltName=IP:127.0.0.1"),
        ],
        check=True,
        capture_output=True,
    )
    hub = start_hub(options=(f"--tls-cert={cert}", f"--tls-key={key}"))
    assert hub.url.startswith("https://127.0.0.1:")
    client = HttpClient(hub.url, ca_file=cert)
    token = client.json("POST", "/api/v1/login", {"user": "admin", "password": PASSWORD})["token"]
    assert token.startswith("whu_")
    browser = httpx.Client(base_url=hub.url, verify=ssl.create_default_context(cafile=cert))
    answer = browser.post("/login", data={"user": "admin", "password": PASSWORD})
    assert "secure" in answer.headers["set-cookie"].lower()
    assert "strict-transport-security" in answer.headers


@pytest.fixture
def tiny(tmp_path: Path) -> Iterator[Path]:
    """A file system of a few megabytes."""
    where = tmp_path / "tiny"
    where.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(where)], check=True)
    yield where
    subprocess.run(["umount", "--lazy", str(where)], check=True)


def test_a_full_disk_is_said_and_harms_nothing(tiny: Path, made_hub: Path, tmp_path: Path, repo: Repository) -> None:
    subprocess.run(["cp", "-a", str(made_hub), str(tiny / "hub")], check=True)
    hub = HubProcess(path=tiny / "hub")
    log = tmp_path / "hub.log"
    hub.log_to = log
    hub.start()
    try:
        person = hub.login()
        device = Device(url=hub.url, key=PrivateKey.generate())
        token = hub.token()
        device.enrol(token)
        person.json("POST", "/api/v1/devices/kiosk/accept")
        device.session()
        small, component = make_revision(repo)
        push(person, repo, small, component)

        large, component = make_revision(repo, page=os.urandom(12_000_000), parent=small)
        with pytest.raises(HttpError) as full:
            send_pack(person, pack_bytes(objects_of(repo, large, component)))
        assert full.value.status == 507
        subprocess.run(["ostree", "fsck", f"--repo={hub.path}/repo"], check=True, capture_output=True)

        ballast = tiny / "ballast"
        with open(ballast, "wb", buffering=0) as file, pytest.raises(OSError, match="space"):
            while True:
                file.write(b"x" * 4096)
        statuses = set()
        for _ in range(200):
            try:
                device.report(UpdateState.FETCHING, assignment=0, running=None, attempt=device.sequence)
                statuses.add(200)
            except HttpError as error:
                statuses.add(error.status)
                break
        assert 507 in statuses
        assert device.desired()["assignment"] == 0  # reading goes on
        ballast.unlink()
        device.report(UpdateState.TESTING, assignment=0, running=None, attempt=1)
        assert person.json("GET", "/api/v1/devices/kiosk")["update_state"] == "testing"
        hub.stop()
        import sqlite3

        with sqlite3.connect(hub.path / "hub.db") as connection:
            assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        connection.close()
        hub.start()
        assert hub.login().json("GET", "/api/v1/revisions")["revisions"][0]["commit"] == small
    finally:
        if hub.process is not None:
            hub.stop(signal.SIGKILL)


def test_a_slow_reader_holds_nobody_up(hub: HubProcess, repo: Repository) -> None:
    person = hub.login()
    commit, component = make_revision(repo, page=os.urandom(8_000_000))
    push(person, repo, commit, component)
    largest = max((hub.path / "repo" / "objects").glob("*/*.filez"), key=lambda path: path.stat().st_size)
    parts = urlsplit(hub.url)
    links = []
    for _ in range(50):
        link = socket.create_connection((parts.hostname or "", parts.port or 0))
        request = (
            f"GET /repo/objects/{largest.parent.name}/{largest.name} HTTP/1.1\r\n"
            f"Host: hub\r\nAuthorization: Bearer {person.token}\r\n\r\n"
        )
        link.sendall(request.encode())
        links.append(link)
    time.sleep(0.3)
    began = time.monotonic()
    for _ in range(10):
        person.json("GET", "/api/v1/devices")
    assert time.monotonic() - began < 2
    for link in links:
        link.close()
    time.sleep(0.5)
    assert hub.process is not None
    open_files = [os.readlink(path) for path in Path(f"/proc/{hub.process.pid}/fd").iterdir() if path.is_symlink()]
    assert not [name for name in open_files if name.endswith(".filez")]
