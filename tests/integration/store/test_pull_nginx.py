"""Pulling from a real nginx: HTTP/1.1 and HTTP/2, TLS with pinned authorities and client certificates, resumption."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.request import urlopen

import pytest
from tests.integration.store.nginx_server import Nginx, nginx
from tests.unit.store.conftest import commit_files, make_repo

from wherry.core.errors import InvalidInput, NetworkError, NotFound, Unsupported
from wherry.core.transfer import TlsError, TransferSettings
from wherry.store.care.fsck import fsck
from wherry.store.format.objects import Mode
from wherry.store.pull.downloads import OverBudget
from wherry.store.pull.pull import PullOptions, pull
from wherry.store.pull.remote import Remote
from wherry.store.repository import Repository
from wherry.store.summary import update_summary

FILES = {f"usr/lib/{number}": os.urandom(2000) for number in range(60)} | {"large": os.urandom(3_000_000)}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nginx]:
    folder = tmp_path_factory.mktemp("nginx")
    archive = make_repo(folder / "root/repo", Mode.ARCHIVE)
    commit_files(archive, FILES)
    update_summary(archive)
    with nginx(folder / "root", folder / "run") as found:
        yield found


@pytest.fixture
def dest(tmp_path: Path, server: Nginx) -> Repository:
    server.forget()
    return make_repo(tmp_path / "dest", Mode.BARE_USER)


def remote(url: str, **values: str) -> Remote:
    return Remote(name="o", values={"url": f"{url}/repo", "gpg-verify": "false", **values})


def test_http1(dest: Repository, server: Nginx) -> None:
    result = pull(dest, remote(server.plain), ["main"])
    assert result.stats.counts.content_fetched == 61
    assert {protocol for protocol, *_ in server.requests()} == {"HTTP/1.1"}
    assert fsck(dest).ok
    assert not dest.is_partial(dest.resolve("o:main"))


def test_http2(dest: Repository, server: Nginx) -> None:
    pull(dest, remote(server.tls, **{"tls-ca-path": str(server.ca)}), ["main"])
    assert {protocol for protocol, *_ in server.requests()} == {"HTTP/2.0"}
    assert fsck(dest).ok


def test_http2_refused(dest: Repository, server: Nginx) -> None:
    pull(dest, remote(server.tls, http2="false", **{"tls-ca-path": str(server.ca)}), ["main"])
    assert {protocol for protocol, *_ in server.requests()} == {"HTTP/1.1"}


def test_an_authority_that_is_not_known(dest: Repository, server: Nginx) -> None:
    with pytest.raises(TlsError, match="TLS failed"):
        pull(dest, remote(server.tls), ["main"])
    assert server.requests() == []  # and it is not tried again
    pull(dest, remote(server.tls, **{"tls-permissive": "true"}), ["main"])
    assert fsck(dest).ok


def test_client_certificate(dest: Repository, server: Nginx) -> None:
    keys = {"tls-ca-path": str(server.ca)}
    with pytest.raises((NotFound, NetworkError), match="400"):
        pull(dest, remote(server.mutual, **keys), ["main"])
    keys["tls-client-cert-path"] = str(server.folder / "client.pem")
    with pytest.raises(InvalidInput, match="must specify both"):
        pull(dest, remote(server.mutual, **keys), ["main"])
    keys["tls-client-key-path"] = str(server.folder / "client.key")
    pull(dest, remote(server.mutual, **keys), ["main"])
    assert fsck(dest).ok


@pytest.mark.parametrize("scheme", ["plain", "tls"])
def test_a_budget_and_what_comes_after_it(dest: Repository, server: Nginx, scheme: str) -> None:
    where = remote(getattr(server, scheme), **{"tls-ca-path": str(server.ca)})
    with pytest.raises(OverBudget, match="have come"):
        pull(dest, where, ["main"], PullOptions(max_bytes=1_000_000))  # in the middle of the large file
    parts = list((dest.path / "tmp/wherry-parts").iterdir())
    assert [part.stat().st_size > 900_000 for part in parts] == [True]
    server.forget()
    result = pull(dest, where, ["main"])
    assert result.stats.bytes_received < 2_300_000
    assert any(ranged.startswith("bytes=") for *_, ranged in server.requests())
    assert fsck(dest).ok


def test_a_budget_keeps_what_is_whole(dest: Repository, server: Nginx) -> None:
    with pytest.raises(OverBudget, match="have come"):
        pull(dest, remote(server.plain), ["main"], PullOptions(max_bytes=3_050_000, parallel=1))
    first = len(server.requests())
    server.forget()
    result = pull(dest, remote(server.plain), ["main"], PullOptions(parallel=1))
    assert 20 < first < 40
    assert result.stats.counts.content_fetched < 45
    assert fsck(dest).ok


def test_the_rate(dest: Repository, server: Nginx) -> None:
    settings = TransferSettings(limit_rate_bytes_s=2_000_000)
    began = time.monotonic()
    pull(dest, remote(server.plain), ["main"], PullOptions(transfer=settings))
    assert time.monotonic() - began > 1.0  # 3.1 MB


def test_the_summary_is_asked_for_once(dest: Repository, server: Nginx) -> None:
    pull(dest, remote(server.plain), ["main"])
    kept = dest.path / "tmp/cache/summaries/o"
    assert kept.is_file()
    inode = kept.stat().st_ino
    server.forget()
    pull(dest, remote(server.plain), ["main"])
    assert [status for _, status, path, _ in server.requests() if path == "/repo/summary"] == [304]
    assert kept.stat().st_ino == inode


def test_what_is_not_there(dest: Repository, server: Nginx) -> None:
    with pytest.raises(NotFound, match="No such branch 'none' in repository summary"):
        pull(dest, remote(server.plain), ["none"])
    with pytest.raises(NotFound, match="404"):
        pull(dest, Remote(name="o", values={"url": f"{server.plain}/none", "gpg-verify": "false"}), ["main"])
    with pytest.raises(InvalidInput, match="No configured branches"):
        pull(dest, remote(server.plain))


def test_an_unconfigured_remote(dest: Repository, server: Nginx) -> None:
    with pytest.raises(Unsupported, match="buy it"):
        pull(dest, remote(server.plain, **{"unconfigured-state": "buy it"}), ["main"])


def test_subpaths(dest: Repository, server: Nginx) -> None:
    pull(dest, remote(server.plain), ["main"], PullOptions(subpaths=("/usr/lib/7",)))
    assert sum(path.endswith(".filez") for _, _, path, _ in server.requests()) == 1
    assert dest.is_partial(dest.resolve("o:main"))
    pull(dest, remote(server.plain), ["main"])
    assert fsck(dest).ok
    assert not dest.is_partial(dest.resolve("o:main"))


def test_mirrors(dest: Repository, server: Nginx, tmp_path: Path) -> None:
    listed = tmp_path / "list"
    listed.write_text(f"# mirrors\n\n{server.plain}/none\n{server.plain}/repo\n")
    where = Remote(name="o", values={"url": f"mirrorlist={listed.as_uri()}", "gpg-verify": "false"})
    with pytest.raises(InvalidInput, match="not an address to fetch from"):
        pull(dest, where, ["main"])  # a list on this machine is not read over the network's way
    (server.folder.parent / "root/list").write_text(listed.read_text())
    where = Remote(name="o", values={"url": f"mirrorlist={server.plain}/list", "gpg-verify": "false"})
    pull(dest, where, ["main"])
    assert fsck(dest).ok


def test_proxy(dest: Repository, server: Nginx) -> None:
    seen: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *args: object) -> None:
            pass

        def do_GET(self) -> None:
            seen.append(self.path)
            try:
                with urlopen(self.path) as answer:
                    status, body = answer.status, answer.read()
            except OSError:
                status, body = 404, b""
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    proxy = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=proxy.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    address = f"http://127.0.0.1:{proxy.server_address[1]}"
    try:
        pull(dest, remote(server.plain, proxy=address), ["main"], PullOptions(subpaths=("/usr/lib/1",)))
        assert seen[0].startswith(f"{server.plain}/repo/")
        count = len(seen)
        direct = TransferSettings(proxies=(("http", address),), no_proxy="127.0.0.1")
        pull(dest, remote(server.plain), ["main"], PullOptions(transfer=direct))
        assert len(seen) == count
    finally:
        proxy.shutdown()
        thread.join()
        proxy.server_close()
