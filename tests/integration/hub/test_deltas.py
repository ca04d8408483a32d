"""Deltas that a hub makes for its devices, and packs that it sends them."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.integration.hub.conftest import Device, HubProcess, make_revision, objects_of, push
from tests.integration.hub.test_repository import peak_kb, resident_kb

from wherry.core.digest import Checksum
from wherry.core.errors import HttpError
from wherry.core.http import HttpClient
from wherry.hub.deltas import Deltas
from wherry.spec.wire import MAX_PACKED_BYTES, PACK_TYPE, UpdateState
from wherry.store.care.fsck import fsck
from wherry.store.delta.apply import apply_delta
from wherry.store.delta.job import FileOrigin, read_head
from wherry.store.format.objects import FileHeader, Mode, ObjectType
from wherry.store.pull.local import pull_local
from wherry.store.pull.pack import PackReader, object_head
from wherry.store.pull.packed import PackPull
from wherry.store.repository import Repository
from wherry.store.tree.commit import commit_tree
from wherry.store.tree.mutable import TreeBuilder
from wherry.store.tree.walk import gaps
from wherry.trust.keys import PrivateKey

PAGE = random.Random(3).randbytes(900_000)
OTHER_PAGE = PAGE[:400_000] + b"another" + PAGE[400_000:]


def two_revisions(hub: HubProcess, repo: Repository) -> tuple[HttpClient, list[tuple[Checksum, Checksum]]]:
    person = hub.login()
    first = make_revision(repo, page=PAGE)
    second = make_revision(repo, page=OTHER_PAGE, subject="second", parent=first[0])
    push(person, repo, *first)
    push(person, repo, *second, expected=first[0])
    return person, [first, second]


def wait_for(path: Path, hub: HubProcess) -> None:
    deadline = time.monotonic() + 90
    while not path.exists():
        assert time.monotonic() < deadline, hub.log()
        time.sleep(0.05)


def test_made_offered_and_applied(
    hub: HubProcess, repo: Repository, make_device: Callable[..., Device], tmp_path: Path
) -> None:
    person, ((old, old_image), (new, new_image)) = two_revisions(hub, repo)
    device = make_device()
    question = {"have": [old], "want": new}
    assert device.client.json("POST", "/api/device/v1/deltas", question) == {"deltas": []}
    folder = hub.path / "repo/extensions/wherry/deltas"
    assert not folder.exists(), "nothing is made for a revision that the device is not to run"
    person.json("PUT", f"/api/v1/devices/{device.id}/desired", {"revision": old})
    device.report(UpdateState.DONE, assignment=1, running=old)
    person.json("PUT", f"/api/v1/devices/{device.id}/desired", {"revision": new})
    path = folder / f"{old}-{new}.wdelta"
    wait_for(path.with_suffix(".json"), hub)
    (offer,) = device.client.json("POST", "/api/device/v1/deltas", question)["deltas"]
    assert offer["have"] == old
    assert offer["size"] == path.stat().st_size < 20_000
    assert offer["objects_bytes"] > 800_000
    with device.client.get(f"/repo/extensions/wherry/deltas/{path.name}", offset=100) as response:
        assert response.status == 206
        assert response.headers["ETag"]
        assert response.read_all() == path.read_bytes()[100:]
    dest = Repository.init(tmp_path / "device", Mode.BARE_USER)
    pull_local(dest, repo, [old_image, old])
    apply_delta(dest, read_head(FileOrigin(path), where=path), FileOrigin(path))
    for commit in (new, new_image):
        assert next(gaps(dest, commit), None) is None
    assert not list((hub.path / "repo/tmp/wherry-hub-deltas").iterdir())


def test_small_changes_need_no_delta(hub: HubProcess, repo: Repository, make_device: Callable[..., Device]) -> None:
    person = hub.login()
    first = make_revision(repo)
    push(person, repo, *first)
    second = make_revision(repo, page=b"other", subject="second", parent=first[0])
    push(person, repo, *second, expected=first[0])
    device = make_device()
    person.json("PUT", f"/api/v1/devices/{device.id}/desired", {"revision": second[0]})
    device.client.json("POST", "/api/device/v1/deltas", {"have": [first[0]], "want": second[0]})
    note = hub.path / f"repo/extensions/wherry/deltas/{first[0]}-{second[0]}.json"
    wait_for(note, hub)
    assert 0 < json.loads(note.read_text())["objects_bytes"] < 10_000
    assert not note.with_suffix(".wdelta").exists()


@pytest.mark.parametrize(
    "question",
    [
        {"have": ["x"], "want": "0" * 64},
        {"have": ["0" * 64] * 9, "want": "0" * 64},
        {"have": ["0" * 64], "want": "../"},
    ],
)
def test_bad_questions(hub: HubProcess, make_device: Callable[..., Device], question: dict[str, object]) -> None:
    with pytest.raises(HttpError) as refused:
        make_device().client.json("POST", "/api/device/v1/deltas", question)
    assert refused.value.status == 422
    assert hub.process is not None
    assert hub.process.poll() is None


def test_ends_with_the_hub(start_hub: Callable[..., HubProcess], repo: Repository) -> None:
    """Also when it is killed: nobody goes on making deltas."""
    hub = start_hub(env={"WHERRY_TRACE": "store.device-delta.made=sleep:60"})
    person, ((old, _), (new, _)) = two_revisions(hub, repo)
    device = Device(url=hub.url, key=PrivateKey.generate())
    device.enrol(hub.token())
    person.json("POST", f"/api/v1/devices/{device.id}/accept")
    device.session()
    for revision in (old, new):
        person.json("PUT", f"/api/v1/devices/{device.id}/desired", {"revision": revision})
    device.client.json("POST", "/api/device/v1/deltas", {"have": [old], "want": new})
    assert hub.process is not None
    parent = hub.process.pid
    deadline = time.monotonic() + 60
    while not (children := [pid for pid in _children(parent) if b"delta" in _command(pid)]):
        assert time.monotonic() < deadline, hub.log()
        time.sleep(0.05)
    wait_for_scratch = hub.path / "repo/tmp/wherry-hub-deltas"
    while not list(wait_for_scratch.glob("*/wherry-delta-*")):
        assert time.monotonic() < deadline, hub.log()
        time.sleep(0.05)
    assert os.getpriority(os.PRIO_PROCESS, children[0]) == 19
    hub.stop(9)
    while any(b"delta" in _command(pid) for pid in children):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    hub.env.clear()
    hub.start()
    assert not wait_for_scratch.exists() or not list(wait_for_scratch.iterdir())


def _children(pid: int) -> list[int]:
    found = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        found += [int(child) for child in (task / "children").read_text().split()]
    return found


def _command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def test_room_and_lost_commits(tmp_path: Path) -> None:
    repo = Repository.init(tmp_path / "repo", Mode.ARCHIVE)
    commits = []
    for number in range(4):
        with repo.transaction():
            commits.append(commit_tree(repo, *TreeBuilder(repo).write(), subject=f"{number}", timestamp_s=number))
    folder = repo.path / "extensions/wherry/deltas"
    folder.mkdir(parents=True)

    def put(old: str, new: str, time_s: int) -> Path:
        path = folder / f"{old}-{new}.wdelta"
        path.write_bytes(bytes(1000))
        path.with_suffix(".json").write_text('{"objects_bytes": 5000}')
        os.utime(path, (time_s, time_s))
        return path

    oldest, middle, newest = (put(commits[0], commits[number], number) for number in (1, 2, 3))
    lost = put("0" * 64, commits[1], 9)
    (folder / "README").write_text("not ours")
    deltas = Deltas(repo, limit_bytes=2500)
    assert [offer.have for offer in deltas.offers(["0" * 64, commits[0]], commits[1])] == ["0" * 64, commits[0]]
    deltas.tidy()
    assert not lost.exists()
    assert not lost.with_suffix(".json").exists()
    assert oldest.exists(), "it was asked for just now"
    assert not middle.exists()
    assert newest.exists()
    assert (folder / "README").exists()
    assert deltas.offers([commits[0]], commits[2]) == ()
    newest.with_suffix(".json").write_text("[")
    assert deltas.offers([commits[0]], commits[3]) == ()


def ask(client: HttpClient, names: list[str]) -> bytes:
    body = json.dumps({"objects": names}).encode()
    headers = {"Content-Type": "application/json"}
    with client.open("POST", "/api/device/v1/pack", body=body, headers=headers) as response:
        data = response.read_all(max_bytes=128 * 1024 * 1024)
        assert response.status == 200, data
        assert response.headers["Content-Type"] == PACK_TYPE
        assert int(response.headers["Content-Length"]) == len(data)
        return data


def test_pack(hub: HubProcess, repo: Repository, make_device: Callable[..., Device], tmp_path: Path) -> None:
    person = hub.login()
    commit, component = make_revision(repo, page=os.urandom(MAX_PACKED_BYTES + 1))
    push(person, repo, commit, component)
    client = make_device().client
    objects = [(name, data) for name, data in objects_of(repo, commit, component) if not name.endswith("meta")] + [
        (name, data) for name, data in objects_of(repo, commit, component) if name.endswith(".dirmeta")
    ]
    absent = "00/" + "0" * 62 + ".filez"
    names = [absent, *(name for name, _ in objects)]
    data = ask(client, names)
    small = [(name, data) for name, data in objects if len(data) <= MAX_PACKED_BYTES]
    assert len(small) == len(objects) - 1, "the large one is left out"
    assert data == b"".join(object_head(name, len(data)) + data for name, data in dict(small).items())
    dest = Repository.init(tmp_path / "dest", Mode.BARE_USER)
    with dest.transaction() as transaction:
        reader = PackReader(dest, transaction, wanted=frozenset(names))
        for start in range(0, len(data), 1000):
            reader.feed(data[start : start + 1000])
        assert reader.finish().stored == len(dict(small))
    assert dest.has(ObjectType.COMMIT, component)
    assert dest.is_partial(component)
    assert ask(client, []) == b""


@pytest.mark.parametrize(
    "names", [["../../secret.key"], ["00/" + "0" * 62 + ".commitmeta"], ["00/" + "0" * 62 + ".file"], ["x"] * 10_001]
)
def test_pack_of_other_things(hub: HubProcess, make_device: Callable[..., Device], names: list[str]) -> None:
    with pytest.raises(HttpError) as refused:
        make_device().client.json("POST", "/api/device/v1/pack", {"objects": names})
    assert refused.value.status == 422


def test_pack_needs_a_device(hub: HubProcess) -> None:
    for path in ("pack", "deltas"):
        with pytest.raises(HttpError) as refused:
            HttpClient(hub.url).json("POST", f"/api/device/v1/{path}", {"objects": []})
        assert refused.value.status == 401


def test_sending_packs_needs_little_memory(
    hub: HubProcess, repo: Repository, make_device: Callable[..., Device], tmp_path: Path
) -> None:
    client = make_device().client
    source = Repository.open(hub.path / "repo")
    with source.transaction():
        tree = TreeBuilder(source)
        for number in range(80):
            tree.add_file(f"file-{number}", FileHeader(uid=0, gid=0, mode=0o100644), os.urandom(1_000_000))
        tree.write()
    names = [f"{path.parent.name}/{path.name}" for path in source.objects_dir.glob("*/*.filez")]
    assert hub.process is not None
    Path(f"/proc/{hub.process.pid}/clear_refs").write_text("5")  # the peak begins here: logging in takes memory, too
    before = resident_kb(hub.process.pid)
    data = ask(client, names)
    assert 60 * 1024 * 1024 < len(data) <= 64 * 1024 * 1024, "it ended early"
    assert peak_kb(hub.process.pid) - before < 24 * 1024


def make_many(hub: HubProcess) -> tuple[Repository, list[str]]:
    """Makes 80 files of 1 MB and 3000 small ones in the hub's repository."""
    source = Repository.open(hub.path / "repo")
    with source.transaction():
        tree = TreeBuilder(source)
        for number in range(3080):
            content = os.urandom(1_000_000 if number < 80 else 500 + number)
            tree.add_file(f"file-{number}", FileHeader(uid=0, gid=0, mode=0o100644), content)
        tree.write()
    return source, [f"{path.parent.name}/{path.name}" for path in source.objects_dir.glob("*/*.filez")]


def test_hub_dies_in_the_middle_of_packs(hub: HubProcess, make_device: Callable[..., Device], tmp_path: Path) -> None:
    """What came is kept, nothing wrong is, and the rest comes when the hub is back."""
    client = make_device().client
    _, names = make_many(hub)
    dest = Repository.init(tmp_path / "dest", Mode.BARE_USER)

    class Killer:
        def update(self, task: str, done: int, total: int | None, *, unit: str = "") -> None:
            if task == "fetching objects" and done > 100 and hub.process is not None:
                hub.stop(9)

    done = PackPull(dest, client, "/api/device/v1/pack").fetch(names, progress=Killer())
    assert hub.process is None
    assert 0 < done.objects < len(names)
    assert len(done.left) == len(names) - done.objects
    hub.start()
    rest = PackPull(dest, client, "/api/device/v1/pack").fetch(done.left)
    assert (rest.left, rest.objects) == ((), len(done.left))
    assert fsck(dest).problems == ()


_FETCH = """
import sys
from pathlib import Path
from wherry.core.http import HttpClient
from wherry.store.pull.packed import PackPull
from wherry.store.repository import Repository

def peak():
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM"))

names = Path(sys.argv[3]).read_text().split()
repo = Repository.open(Path(sys.argv[1]))
client = HttpClient(sys.argv[2], token=sys.stdin.read())
done = PackPull(repo, client, "/api/device/v1/pack").fetch(names)
assert not done.left, done.problem
print(peak())
"""


def test_fetching_packs_needs_little_memory(
    hub: HubProcess, make_device: Callable[..., Device], tmp_path: Path
) -> None:
    client = make_device().client
    _, names = make_many(hub)
    (tmp_path / "names").write_text("\n".join(names))
    Repository.init(tmp_path / "dest", Mode.BARE_USER)
    done = subprocess.run(
        [sys.executable, "-c", _FETCH, str(tmp_path / "dest"), hub.url, str(tmp_path / "names")],
        input=client.token,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 64_000, "kilobytes, the interpreter included"
