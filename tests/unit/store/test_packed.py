"""Objects that come in packs, from a server that makes good ones, bad ones, or none."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from wherry.core.digest import Checksum
from wherry.core.errors import HttpError
from wherry.core.http import HttpClient
from wherry.store.format.objects import DirMeta, FileHeader, Mode, ObjectType, object_name
from wherry.store.pull import packed
from wherry.store.pull.pack import object_head
from wherry.store.pull.packed import PackPull
from wherry.store.repository import Repository
from wherry.store.tree.commit import commit_tree
from wherry.store.tree.mutable import TreeBuilder
from wherry.store.tree.walk import gaps, reachable

FILE = FileHeader(uid=0, gid=0, mode=0o100644)
FILES = 60


@dataclass
class Server:
    """What the server has, and how it answers."""

    source: Repository
    url: str = ""
    asked: list[list[str]] = field(default_factory=list)
    leave_out: frozenset[str] = frozenset()
    limit: int = 1 << 30
    status: int = 200
    change: Callable[[list[tuple[str, bytes]]], None] = lambda items: None
    cut: list[int] = field(default_factory=list)
    """So many bytes of the next answers are sent."""
    whole_length: bool = True

    def answer(self, names: list[str]) -> bytes:
        items: list[tuple[str, bytes]] = []
        for name in names:
            path = self.source.path / "objects" / name
            if name not in self.leave_out and path.exists() and len(items) < self.limit:
                items.append((name, path.read_bytes()))
        self.change(items)
        return b"".join(object_head(name, len(data)) + data for name, data in items)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    source = Repository.init(tmp_path / "source", Mode.ARCHIVE)
    found = Server(source)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            names = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["objects"]
            found.asked.append(names)
            body = found.answer(names) if found.status == 200 else b"{}"
            self.send_response_only(found.status)
            end = found.cut.pop(0) if found.cut else len(body)
            self.send_header("Content-Length", str(len(body) if found.whole_length else end))
            self.end_headers()
            self.wfile.write(body[:end])
            self.close_connection = end != len(body)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 the name that http.server uses
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    http.daemon_threads = True
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    found.url = f"http://127.0.0.1:{http.server_address[1]}"
    yield found
    http.shutdown()
    http.server_close()
    thread.join(5)


@pytest.fixture
def commit(server: Server) -> Checksum:
    with server.source.transaction():
        tree = TreeBuilder(server.source)
        for number in range(FILES):
            tree.mkdir(f"d{number % 7}/deep", DirMeta(), parents=True)
            tree.add_file(f"d{number % 7}/deep/f{number}", FILE, f"number {number}\n".encode() * (number + 1))
        tree.symlink("link", "d0", FileHeader(uid=0, gid=0, mode=0o120777, symlink_target="d0"))
        return commit_tree(server.source, *tree.write(), subject="s", timestamp_s=1)


@pytest.fixture(params=[Mode.BARE_USER, Mode.ARCHIVE, Mode.BARE_USER_ONLY])
def repo(request: pytest.FixtureRequest, tmp_path: Path) -> Repository:
    return Repository.init(tmp_path / "device", request.param)


@pytest.fixture
def names(server: Server, commit: Checksum) -> list[str]:
    items = reachable(server.source, commit)
    return sorted(object_name(kind, name, Mode.ARCHIVE) for kind, name in items if kind is ObjectType.FILE)


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packed, "backoff", lambda failures: None)


def pull(repo: Repository, server: Server, **options: int) -> PackPull:
    return PackPull(repo, HttpClient(server.url), "/pack", **options)


def here(repo: Repository, names: list[str]) -> int:
    return sum(repo.has(ObjectType.FILE, Checksum(name[:2] + name[3:65])) for name in names)


def test_all_of_a_commit(repo: Repository, server: Server, commit: Checksum, names: list[str]) -> None:
    packs = pull(repo, server, batch=17)
    packs.fetch_trees([commit])
    assert repo.is_partial(commit)
    assert len(server.asked) <= 5, "the commit, and one for each level of the tree"
    assert len(set(gaps(repo, commit))) == len(names)
    done = packs.fetch(names)
    assert (done.left, done.objects, done.problem) == ((), len(names), "")
    assert packs.bytes_received > 0
    assert next(gaps(repo, commit), None) is None


def test_left_out_and_ended_early(repo: Repository, server: Server, names: list[str]) -> None:
    server.leave_out, server.limit = frozenset(names[3:6]), 10
    done = pull(repo, server).fetch(names)
    assert sorted(done.left) == names[3:6]
    assert here(repo, names) == len(names) - 3


def test_nothing_there(repo: Repository, server: Server, names: list[str]) -> None:
    server.leave_out = frozenset(names)
    assert sorted(pull(repo, server).fetch(names).left) == names
    assert len(server.asked) == 1


@pytest.mark.parametrize("whole_length", [True, False])
def test_cut_short(repo: Repository, server: Server, names: list[str], whole_length: bool) -> None:
    server.cut, server.whole_length = [1500, 2500, 0, 1500], whole_length
    done = pull(repo, server, parallel=1).fetch(names)
    if whole_length:  # a link that breaks
        assert (done.left, done.problem) == ((), "")
        assert sum(map(len, server.asked)) < 5 * len(names), "what came is not asked for again"
        assert here(repo, names) == len(names)
    else:  # a server that says it was all
        assert "ends inside an object" in done.problem
        assert here(repo, names) == len(names) - len(done.left)


def test_broken_for_good(repo: Repository, server: Server, names: list[str]) -> None:
    server.cut = [2500] + [0] * 50
    done = pull(repo, server, parallel=1).fetch(names)
    came = here(repo, names)
    assert came > 0, "what has come is kept"
    assert done.left == tuple(name for name in names if not here(repo, [name]))
    assert not done.problem, "it may be the link"
    server.cut = []
    done = pull(repo, server).fetch([name for name in names if not here(repo, [name])])
    assert done.objects == len(names) - came


def wrong_object(items: list[tuple[str, bytes]]) -> None:
    items[4] = (items[4][0], items[5][1])


def flipped_bit(items: list[tuple[str, bytes]]) -> None:
    data = bytearray(items[4][1])
    data[-3] ^= 8
    items[4] = (items[4][0], bytes(data))


def not_asked(items: list[tuple[str, bytes]]) -> None:
    items.insert(4, ("00/" + "0" * 62 + ".filez", items[4][1]))


def twice(items: list[tuple[str, bytes]]) -> None:
    items.insert(4, items[4])


@pytest.mark.parametrize("change", [wrong_object, flipped_bit, not_asked])
def test_bad_pack(
    repo: Repository, server: Server, names: list[str], change: Callable[[list[tuple[str, bytes]]], None]
) -> None:
    """What is good before it stays, nothing bad gets in, and all else is left to be fetched one by one."""
    server.change = change
    packs = pull(repo, server, parallel=1)
    done = packs.fetch(names)
    assert done.problem
    assert done.objects == 4
    assert sorted(done.left) == names[4:]
    assert here(repo, names) == 4
    assert not repo.has(ObjectType.FILE, Checksum("0" * 64))
    server.change = lambda items: None
    assert packs.fetch(names[4:]).left == tuple(names[4:]), "it is not asked again"


def test_object_twice(repo: Repository, server: Server, names: list[str]) -> None:
    server.change = twice
    assert pull(repo, server).fetch(names).left == ()


@pytest.mark.parametrize("status", [400, 403, 404, 405, 413, 422])
def test_no_packs(repo: Repository, server: Server, names: list[str], status: int) -> None:
    server.status = status
    packs = pull(repo, server, parallel=1, batch=10)
    assert sorted(packs.fetch(names).left) == names
    assert str(status) in packs.problem
    assert len(server.asked) == 1


def test_login_ended(repo: Repository, server: Server, names: list[str]) -> None:
    server.status = 401
    with pytest.raises(HttpError) as refused:
        pull(repo, server).fetch(names)
    assert refused.value.status == 401


class _Impatient:
    def update(self, task: str, done: int, total: int | None, *, unit: str = "") -> None:
        """Ends it in the middle."""
        if task == "fetching objects" and done >= 3:
            raise KeyboardInterrupt


def test_interrupted(repo: Repository, server: Server, names: list[str]) -> None:
    server.change = lambda items: time.sleep(0.05)
    with pytest.raises(KeyboardInterrupt):
        pull(repo, server, parallel=1, batch=1).fetch(names, progress=_Impatient())
    assert 3 <= here(repo, names) < len(names)
