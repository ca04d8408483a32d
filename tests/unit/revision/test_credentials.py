"""Logins, kept and refused; and the fleet's routes in the client."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from wherry.core import jsonio
from wherry.core.errors import Conflict, InvalidInput, NotFound, NotPermitted
from wherry.revision.credentials import Credentials, Login, hub_key
from wherry.revision.hubclient import HubClient
from wherry.spec.wire import DeviceState


def test_logins_are_kept_apart(tmp_path: Path) -> None:
    kept = Credentials(tmp_path / "config" / "credentials.json")
    assert kept.get("http://one") is None
    assert kept.urls() == ()
    kept.put("http://one/", Login(token="t1", user="ann", expires_s=5))
    kept.put("https://TWO:443", Login(token="t2"))
    assert kept.get("HTTP://ONE:80") == Login(token="t1", user="ann", expires_s=5)
    assert kept.urls() == ("http://one", "https://two")
    assert kept.path.stat().st_mode & 0o777 == 0o600
    assert kept.path.parent.stat().st_mode & 0o777 == 0o700
    assert kept.remove("http://one")
    assert not kept.remove("http://one")
    assert kept.get("https://two") == Login(token="t2")
    assert "t2" not in repr(kept.get("https://two"))


def test_logins_that_are_refused(tmp_path: Path) -> None:
    kept = Credentials(tmp_path / "credentials.json")
    kept.put("http://one", Login(token="t1"))
    kept.path.chmod(0o640)
    with pytest.raises(NotPermitted, match="chmod 600"):
        kept.get("http://one")
    kept.path.chmod(0o600)
    kept.path.write_text("{")
    with pytest.raises(InvalidInput, match="remove it, then log in again"):
        kept.get("http://one")


@pytest.mark.parametrize(
    ("url", "key"),
    [
        ("http://Hub:80/", "http://hub"),
        ("https://hub:443/base/", "https://hub/base"),
        ("https://hub:8443", "https://hub:8443"),
        ("http://[::1]:8080", "http://[::1]:8080"),
    ],
)
def test_addresses(url: str, key: str) -> None:
    assert hub_key(url) == key


@pytest.mark.parametrize("url", ["hub", "ftp://hub", "http://", "http://hub:port", ""])
def test_addresses_that_are_none(url: str) -> None:
    with pytest.raises(InvalidInput, match="not an http"):
        hub_key(url)


_DEVICE = {"id": "ab" * 16, "name": "kiosk-7", "state": "accepted", "a-newer-hub-says": "more"}
_ANSWERS: dict[tuple[str, str], tuple[int, Any]] = {
    ("GET", "/api/v1/devices"): (200, {"devices": [_DEVICE]}),
    ("GET", "/api/v1/devices/kiosk-7"): (200, _DEVICE),
    ("POST", "/api/v1/devices/kiosk-7/accept"): (200, _DEVICE),
    ("POST", "/api/v1/devices/kiosk-7/reject"): (403, {"detail": "not yours"}),
    ("PUT", "/api/v1/devices/kiosk-7/desired"): (409, {"detail": "the device is not accepted"}),
    ("DELETE", "/api/v1/devices/a%2Fb"): (404, {"detail": "no such device"}),
    ("GET", "/api/v1/devices/kiosk-7/history?limit=3"): (200, {"history": [{"time_s": 1, "event": "enrolled"}]}),
    ("GET", "/api/v1/revisions"): (200, {"revisions": [{"commit": "1" * 64, "ref": "revision/kiosk"}]}),
    ("POST", "/api/v1/enrolment-tokens"): (
        200,
        {"id": "t", "uses_left": 2, "created_s": 1, "expires_s": 2, "token": "secret"},
    ),
    ("GET", "/api/v1/enrolment-tokens"): (200, {"tokens": []}),
    ("DELETE", "/api/v1/enrolment-tokens/t"): (204, None),
    ("POST", "/api/v1/logout"): (204, None),
    ("POST", "/api/v1/repo/missing"): (200, {"objects": ["never/asked"]}),
}


class _Scripted(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 its name there
        pass

    def _answer(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", "0")))
        status, value = _ANSWERS[self.command, self.path]
        data = b"" if value is None else jsonio.canonical(value)
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    do_GET = do_POST = do_PUT = do_DELETE = _answer  # noqa: N815 their names there


@pytest.fixture
def client() -> Iterator[HubClient]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Scripted)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    made = HubClient(f"http://127.0.0.1:{server.server_address[1]}", "token")
    yield made
    made.close()
    server.shutdown()
    server.server_close()
    thread.join(5)


def test_the_fleets_routes(client: HubClient) -> None:
    (device,) = client.devices()
    assert device == client.device("kiosk-7") == client.accept("kiosk-7")
    assert (device.state, device.extra) == (DeviceState.ACCEPTED, {"a-newer-hub-says": "more"})
    assert client.history("kiosk-7", limit=3)[0].event == "enrolled"
    assert client.revisions()[0].ref == "revision/kiosk"
    assert client.make_enrolment_token(uses=2).token == "secret"
    assert client.enrolment_tokens() == ()
    client.revoke_enrolment_token("t")
    with pytest.raises(NotPermitted, match="not yours"):
        client.reject("kiosk-7")
    with pytest.raises(Conflict, match="the device is not accepted"):
        client.assign("kiosk-7", "1" * 64)
    with pytest.raises(NotFound, match="no such device"):
        client.remove("a/b")
    with pytest.raises(InvalidInput, match="was not asked for"):
        client.missing(("a/b",))
    client.logout()
    assert client.http.token is None
