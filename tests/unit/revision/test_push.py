"""Pushing to and cloning from a simulated hub: what crosses the wire, what resumes, what is refused."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.simulators.hub_simulator import PASSWORD, TOKEN, USER, HubSimulator, read_pack
from tests.simulators.machine import Machine

from wherry.core import http
from wherry.core.digest import Checksum
from wherry.core.errors import (
    Conflict,
    HttpError,
    IntegrityError,
    InvalidInput,
    NetworkError,
    NotFound,
    NotPermitted,
    TrustError,
)
from wherry.revision import push as pushing
from wherry.revision import record
from wherry.revision.clone import clone, split_address
from wherry.revision.hubclient import HubClient
from wherry.revision.load import load_revision
from wherry.revision.project import Project
from wherry.revision.push import Pushed, push
from wherry.revision.sign import verify_commit
from wherry.store.care.fsck import fsck
from wherry.store.format.objects import Mode, ObjectType, parse_object_name
from wherry.store.pull.packing import in_order, packs
from wherry.store.repository import Repository
from wherry.store.tree.walk import reachable
from wherry.trust.keys import PrivateKey

_COMPOSE = "services:\n  web:\n    image: web:1.0\n    environment: {TZ: UTC}\n"


@pytest.fixture
def project(machine: Machine) -> Project:
    machine.image("web:1.0", {f"usr/share/{n}": f"file {n}\n" * 50 for n in range(40)} | {"bin/web": bytes(300_000)})
    made = machine.project(compose=_COMPOSE)
    (made.root / "config/web").mkdir()
    (made.root / "config/web/index.html").write_text("hello\n")
    (made.root / "config/web/link").symlink_to("index.html")
    (made.root / "config/web/run").write_text("#!/bin/sh\n")
    (made.root / "config/web/run").chmod(0o755)
    return made


@pytest.fixture
def client(hub: HubSimulator) -> Iterator[HubClient]:
    made = HubClient(hub.url, TOKEN)
    yield made
    made.close()


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "backoff", lambda attempt: None)
    monkeypatch.setattr(pushing, "backoff", lambda attempt: None)


def _commit(project: Project, message: str = "a revision") -> Checksum:
    made = record.commit(project, message)
    assert made is not None
    return made.commit


def _push(project: Project, client: HubClient, *, pack_bytes: int = 1 << 24) -> Pushed:
    head = project.resolve("HEAD")
    return push(project.repo, client, project.workspace.head_ref(), head, pack_bytes=pack_bytes)


def test_a_first_push_and_a_clone(tmp_path: Path, project: Project, hub: HubSimulator, client: HubClient) -> None:
    commit = _commit(project)
    done = _push(project, client)
    assert (done.old, done.new, done.revisions) == (None, commit, 1)
    assert done.objects_sent == done.objects_total == len(hub.stored)
    assert done.bytes_sent == hub.pack_bytes
    assert hub.ref("revision/kiosk") == commit
    assert not list((project.repo.path / "tmp").glob("push-*"))

    key = project.workspace.key().public
    made = clone(client, "kiosk", tmp_path / "copy", trust=[key])
    assert (made.commit, made.verified, made.signed_by) == (commit, True, (key,))
    assert made.bytes_received > 0
    copy = Project.find(made.root, tmp_path / "no-machine")
    assert copy.status().clean
    assert copy.workspace.remotes() == {"origin": hub.url}
    assert copy.names(commit) == ["HEAD", "origin"]
    for path in ("compose.yaml", "wherry.yaml", "config/web/index.html"):
        assert (copy.root / path).read_bytes() == (project.root / path).read_bytes()
    assert (copy.root / "config/web/link").readlink() == Path("index.html")
    assert (copy.root / "config/web/run").stat().st_mode & 0o111
    assert not (copy.root / "config/web/index.html").stat().st_mode & 0o111
    assert not (copy.root / "revision.json").exists()
    (copy.root / "config/web/index.html").write_text("changed in the copy\n")
    assert record.commit(copy, "from the copy", key=PrivateKey.generate()) is not None
    assert load_revision(copy.repo, copy.resolve("HEAD")).apps["web"].image.reference == "web:1.0"
    assert _push(copy, client).old == commit


def test_only_what_is_new_crosses_the_wire(project: Project, hub: HubSimulator, client: HubClient) -> None:
    first = _commit(project)
    whole = _push(project, client)
    (project.root / "config/web/index.html").write_text("hello again\n")
    second = _commit(project)
    asked = len(hub.requests)
    done = _push(project, client)
    assert (done.old, done.new) == (first, second)
    # commit, its signature, the root and two folders, revision.json, the page
    assert done.objects_sent == 7
    assert done.bytes_sent < 4000 < whole.bytes_sent
    assert len(hub.requests) - asked <= 6
    assert _push(project, client).revisions == 0


def test_revisions_in_between_are_sent_too(project: Project, hub: HubSimulator, client: HubClient) -> None:
    commits = []
    for number in range(4):
        (project.root / "config/web/index.html").write_text(f"{number}\n")
        commits.append(_commit(project))
    assert _push(project, client).revisions == 4
    for commit in commits:
        assert hub.repo.has(ObjectType.COMMIT, commit)
        verify_commit(hub.repo, commit, [project.workspace.key().public])


def test_a_push_that_is_cut_off_goes_on(project: Project, hub: HubSimulator, client: HubClient) -> None:
    _commit(project)
    hub.faults.cut_pack_after_bytes = [2000] * pushing.TRIES
    with pytest.raises(NetworkError):
        _push(project, client)
    assert hub.ref("revision/kiosk") is None
    had = set(hub.stored)
    assert had
    hub.stored.clear()
    _push(project, client)
    assert not had & set(hub.stored)
    assert hub.ref("revision/kiosk") == project.resolve("HEAD")


def test_a_short_break_is_survived(project: Project, hub: HubSimulator, client: HubClient) -> None:
    _commit(project)
    hub.faults.cut_pack_after_bytes = [100]
    hub.faults.statuses = [503]
    _push(project, client)
    assert hub.ref("revision/kiosk") == project.resolve("HEAD")
    assert hub.packs >= 2


def test_many_small_packs(project: Project, hub: HubSimulator, client: HubClient) -> None:
    commit = _commit(project)
    _push(project, client, pack_bytes=1000)
    assert hub.packs > 5
    kinds = [parse_object_name(name)[0] for name in hub.stored]
    assert set(kinds[-2:]) == {ObjectType.COMMIT}
    assert hub.ref("revision/kiosk") == commit


def test_commits_come_last(project: Project) -> None:
    ordered = [kind for kind, _ in in_order(reachable(project.repo, _commit(project)))]
    assert ordered[0] is ObjectType.FILE
    assert ordered[-1] is ObjectType.COMMIT
    assert ordered[-2] is ObjectType.COMMITMETA


def test_a_hub_that_lost_objects_gets_them_again(project: Project, hub: HubSimulator, client: HubClient) -> None:
    _commit(project)
    _push(project, client)
    lost = next(path for path in hub.repo.objects_dir.rglob("*.filez"))
    lost.unlink()
    (project.root / "config/web/index.html").write_text("more\n")
    _commit(project)
    _push(project, client)
    assert lost.exists()


def test_what_is_no_fast_forward_is_refused(
    tmp_path: Path, project: Project, hub: HubSimulator, client: HubClient
) -> None:
    first = _commit(project)
    _push(project, client)
    clone(client, "kiosk", tmp_path / "copy")
    copy = Project.find(tmp_path / "copy", tmp_path / "none")
    (copy.root / "config/web/index.html").write_text("theirs\n")
    assert record.commit(copy, "theirs", key=PrivateKey.generate()) is not None
    _push(copy, client)
    (project.root / "config/web/index.html").write_text("ours\n")
    _commit(project)
    with pytest.raises(Conflict, match=r"revisions that you do not have.*clone the project anew") as error:
        _push(project, client)
    assert error.value.exit_code == 4
    assert hub.ref("revision/kiosk") == copy.resolve("HEAD") != first


def test_somebody_is_faster(project: Project, hub: HubSimulator, client: HubClient) -> None:
    first = _commit(project)
    _push(project, client)
    (project.root / "config/web/index.html").write_text("ours\n")
    _commit(project)
    hub.before_ref = [(project.workspace.head_ref(), Checksum(load_revision(project.repo, first).components()[0]))]
    with pytest.raises(Conflict, match="somebody else pushed"):
        _push(project, client)


def test_refusals_of_the_hub(project: Project, hub: HubSimulator, client: HubClient) -> None:
    _commit(project)
    stranger = HubClient(hub.url)
    with pytest.raises(NotPermitted, match=f"asks for a login.*wherry fleet login {hub.url}"):
        _push(project, stranger)
    with pytest.raises(NotPermitted, match="user or password is wrong"):
        stranger.login(USER, "guess")
    assert stranger.login(USER, PASSWORD).token == TOKEN
    hub.faults.statuses = [507]
    with pytest.raises(Exception, match="the hub's disk is full: told to"):
        _push(project, stranger)
    hub.faults.statuses = [422]
    with pytest.raises(HttpError, match="422: told to"):
        _push(project, stranger)
    _push(project, stranger)
    stranger.close()


def test_a_hub_that_is_down(project: Project) -> None:
    _commit(project)
    client = HubClient("http://127.0.0.1:1", TOKEN)
    with pytest.raises(NetworkError, match="no answer"):
        _push(project, client)
    client.close()


def test_a_component_that_is_gone(project: Project, client: HubClient) -> None:
    commit = _commit(project)
    component = Checksum(load_revision(project.repo, commit).components()[0])
    project.repo.object_path(ObjectType.COMMIT, component).unlink()
    with pytest.raises(NotFound, match=r"component .* of the revision is not here.*import the image again"):
        _push(project, client)


# --- packs


@pytest.mark.parametrize("mode", [Mode.BARE_USER, Mode.ARCHIVE])
def test_packs_hold_archive_objects(tmp_path: Path, project: Project, mode: Mode) -> None:
    commit = _commit(project)
    source = project.repo
    if mode is Mode.ARCHIVE:
        from wherry.store.pull.pull import pull_local

        source = Repository.init(tmp_path / "archive", Mode.ARCHIVE)
        pull_local(source, project.repo, [commit])
    dest = Repository.init(tmp_path / "dest", Mode.ARCHIVE)
    with packs(source, in_order(reachable(source, commit)), pack_bytes=500) as made:
        for pack in made:
            data = pack.file.read()
            assert len(data) == pack.size_bytes
            with dest.transaction():
                for name, body in read_pack(io.BytesIO(data)):
                    kind, checksum = parse_object_name(name)
                    dest.write_object(kind, body, checksum)
    assert not fsck(dest).problems
    assert verify_commit(dest, commit, [project.workspace.key().public]).key_id


# --- clone


def test_a_clone_without_trust_says_so(tmp_path: Path, project: Project, client: HubClient) -> None:
    _commit(project)
    _push(project, client)
    made = clone(client, "kiosk", tmp_path / "copy")
    assert not made.verified
    assert made.signed_by == (project.workspace.key().public,)


def test_a_clone_has_the_history(tmp_path: Path, project: Project, client: HubClient) -> None:
    commits = []
    for number in range(3):
        (project.root / "config/web/index.html").write_text(f"{number}\n")
        commits.append(_commit(project))
    _push(project, client)
    clone(client, "kiosk", tmp_path / "copy")
    copy = Project.find(tmp_path / "copy", tmp_path / "none")
    assert [commit for commit, _ in copy.history(copy.resolve("HEAD"))] == commits[::-1]
    assert copy.resolve("HEAD~2") == commits[0]
    assert copy.resolve("origin") == commits[2]


def test_a_clone_trusts_nobody_else(tmp_path: Path, project: Project, client: HubClient) -> None:
    _commit(project)
    _push(project, client)
    with pytest.raises(TrustError, match="not signed by a trusted key"):
        clone(client, "kiosk", tmp_path / "copy", trust=[PrivateKey.generate().public])
    assert not (tmp_path / "copy").exists()


def test_clones_that_cannot_be(tmp_path: Path, project: Project, hub: HubSimulator, client: HubClient) -> None:
    _commit(project)
    _push(project, client)
    with pytest.raises(NotFound, match=r"no project 'kisok' on this hub.*it has: kiosk"):
        clone(client, "kisok", tmp_path / "copy")
    with pytest.raises(Conflict, match="there and not empty"):
        clone(client, "kiosk", project.root)
    (tmp_path / "empty").mkdir()
    damaged = next(path for path in hub.repo.objects_dir.rglob("*.filez"))
    damaged.write_bytes(damaged.read_bytes()[:-3])
    with pytest.raises((IntegrityError, NetworkError, InvalidInput)):
        clone(client, "kiosk", tmp_path / "empty")
    assert list((tmp_path / "empty").iterdir()) == []


@pytest.mark.parametrize("path", [".git/hooks/post-checkout", "config/web/.wherry/key"])
def test_a_clone_writes_no_names_that_bite(
    tmp_path: Path, project: Project, hub: HubSimulator, client: HubClient, path: str
) -> None:
    from wherry.revision import files
    from wherry.store.tree.commit import commit_tree
    from wherry.store.tree.mutable import TreeBuilder

    good = _commit(project)
    _push(project, client)
    with project.repo.transaction():
        tree = TreeBuilder(project.repo)
        tree.overlay_commit(good)
        tree.mkdir(path.rpartition("/")[0], parents=True)
        tree.add_file(path, files.header_of(files.Kind.EXECUTABLE), b"#!/bin/sh\n")
        root, meta = tree.write()
        ref = project.workspace.head_ref()
        evil = commit_tree(project.repo, root, meta, timestamp_s=1, parent=good, ref=ref)
    for kind, checksum in reachable(project.repo, evil):
        hub_has = hub.repo.has(kind, checksum)
        if not hub_has and kind is not ObjectType.FILE:
            hub.repo.write_object(kind, project.repo.metadata_bytes(kind, checksum), checksum)
    with packs(project.repo, [item for item in reachable(project.repo, evil) if item[0] is ObjectType.FILE]) as made:
        for pack in made:
            for name, body in read_pack(pack.file):
                hub.repo.write_object(ObjectType.FILE, body, parse_object_name(name)[1])
    hub.repo.set_ref(ref, evil)
    with pytest.raises(InvalidInput, match=r"never goes into a revision|config is not what"):
        clone(client, "kiosk", tmp_path / "copy")
    assert not (tmp_path / "copy").exists()


@pytest.mark.parametrize(
    ("address", "found"),
    [
        ("http://hub/kiosk", ("http://hub", "kiosk")),
        ("https://Hub.Example:8443/base/kiosk/", ("https://hub.example:8443/base", "kiosk")),
    ],
)
def test_addresses(address: str, found: tuple[str, str]) -> None:
    assert split_address(address) == found


@pytest.mark.parametrize(
    "address", ["kiosk", "http://kiosk", "ftp://hub/kiosk", "http://hub/a b", "http://hub:x/kiosk"]
)
def test_addresses_that_are_none(address: str) -> None:
    with pytest.raises(InvalidInput):
        split_address(address)
