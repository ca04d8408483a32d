"""Staging and committing: what goes in, what is pinned, what is refused; the same inputs give the same bytes."""

from __future__ import annotations

import os
import shutil
import threading
import time
from pathlib import Path

import pytest
from tests.simulators.machine import Machine

from wherry.core import trace
from wherry.core.digest import Checksum
from wherry.core.errors import IntegrityError, InvalidInput, Locked, NotFound, NotPermitted, TrustError
from wherry.image.reference import Reference
from wherry.revision import record, workspace
from wherry.revision.load import config_trees, load_revision
from wherry.revision.project import Project
from wherry.revision.sign import SIGNATURE_KEY, sign_commit, signers, verify_commit
from wherry.revision.workspace import files_of
from wherry.store.format.objects import DirMeta
from wherry.store.tree.walk import gaps, read_path, walk
from wherry.trust.keys import PrivateKey

_COMPOSE = """\
services:
  web:
    image: web:1.0
    environment: {TZ: UTC}
    healthcheck: {interval: 5s}
  db:
    image: db
volumes:
  data:
"""
_TIME_S = 1_700_000_000


@pytest.fixture
def project(machine: Machine) -> Project:
    machine.image("web:1.0", {"bin/web": "one"}, healthcheck=["CMD", "/bin/true"])
    machine.image("db", {"bin/db": "base"})
    made = machine.project(compose=_COMPOSE)
    (made.root / "config/web").mkdir()
    (made.root / "config/web/index.html").write_text("hello\n")
    return made


def _commit(project: Project, message: str = "first", *, take_all: bool = False) -> record.Committed:
    made = record.commit(project, message, take_all=take_all, timestamp_s=_TIME_S)
    assert made is not None
    return made


def test_a_commit_pins_everything(machine: Machine, project: Project) -> None:
    made = _commit(project)
    revision = load_revision(project.repo, made.commit)
    assert revision == made.revision
    web = revision.apps["web"]
    assert web.image.reference == "web:1.0"
    assert web.image.commit == machine.repo.refs()[Reference.parse("web:1.0").ref]
    assert web.image.digest.startswith("sha256:")
    assert web.healthcheck is not None
    assert (web.healthcheck.test, web.healthcheck.interval_ms) == (("CMD", "/bin/true"), 5000)
    assert web.config == config_trees(project.repo, made.commit)["web"]
    assert revision.apps["db"].config is None
    for component in revision.components():
        assert next(gaps(project.repo, Checksum(component)), None) is None
    assert project.workspace.head() == made.commit
    assert project.workspace.head_ref() == "revision/kiosk"


def test_the_tree_is_canonical(project: Project) -> None:
    (project.root / "config/web/run.sh").write_text("#!/bin/sh\n")
    (project.root / "config/web/run.sh").chmod(0o700)
    (project.root / "config/web/index.html").chmod(0o664)
    (project.root / "config/web/link").symlink_to("index.html")
    made = _commit(project)
    seen: dict[str, int] = {}
    for path, entry in walk(project.repo, made.commit):
        meta = entry if isinstance(entry, DirMeta) else entry[1]
        assert (meta.uid, meta.gid, meta.xattrs) == (0, 0, ())
        seen[path] = meta.mode
    assert seen == {
        "": 0o40755,
        "compose.yaml": 0o100644,
        "revision.json": 0o100644,
        "wherry.yaml": 0o100644,
        "config": 0o40755,
        "config/web": 0o40755,
        "config/web/index.html": 0o100644,
        "config/web/link": 0o120777,
        "config/web/run.sh": 0o100755,
    }


def test_the_same_inputs_give_the_same_bytes(tmp_path: Path, machine: Machine, project: Project) -> None:
    first = _commit(project)
    other = machine.folder / "elsewhere" / "kiosk"
    shutil.copytree(project.root, other, ignore=shutil.ignore_patterns(".wherry"))
    for path in other.rglob("*"):
        if path.is_file():
            os.utime(path, (1, 1))
            path.chmod(0o640)
    again = Project.init(other, "another-name", machine.store)
    again.workspace.key_path.unlink()
    shutil.copy(project.workspace.key_path, again.workspace.key_path)
    second = _commit(again)
    assert second.commit == first.commit
    assert project.repo.read_detached(first.commit) == again.repo.read_detached(second.commit)


def test_nothing_changed_is_no_commit(project: Project) -> None:
    _commit(project)
    assert record.commit(project, "again") is None
    os.utime(project.root / "compose.yaml")
    assert record.commit(project, "again", take_all=True) is None


def test_a_new_image_under_an_old_name_is_a_change(machine: Machine, project: Project) -> None:
    first = _commit(project)
    machine.image("web:1.0", {"bin/web": "two"}, healthcheck=["CMD", "/bin/true"])
    status = project.status()
    assert not status.clean
    assert [moved.app for moved in status.moved_images] == ["web"]
    second = _commit(project, "second")
    assert second.parent == first.commit
    assert second.revision.apps["web"].image.commit != first.revision.apps["web"].image.commit
    assert second.revision.apps["db"] == first.revision.apps["db"]


def test_an_image_that_is_gone_keeps_its_pin(machine: Machine, project: Project) -> None:
    first = _commit(project)
    shutil.rmtree(machine.store)
    (project.root / "compose.yaml").write_text(_COMPOSE.replace("TZ: UTC", "TZ: CET"))
    second = _commit(project, "second")
    assert second.revision.apps["web"].image == first.revision.apps["web"].image


def test_an_image_pinned_by_digest(machine: Machine, project: Project) -> None:
    digest = _commit(project).revision.apps["db"].image.digest
    compose = project.root / "compose.yaml"
    compose.write_text(f"services:\n  db:\n    image: db@{digest}\n")
    shutil.rmtree(project.root / "config/web")
    assert _commit(project, "by digest").revision.apps["db"].image.digest == digest
    compose.write_text(f"services:\n  db:\n    image: db@sha256:{'0' * 64}\n")
    with pytest.raises(NotFound, match="no image 'db@sha256:000"):
        _commit(project, "another digest")
    compose.write_text(f"services:\n  db:\n    image: db:latest@sha256:{'0' * 64}\n")
    with pytest.raises((NotFound, IntegrityError)):
        _commit(project, "another digest")


def test_the_letters_of_a_name_are_no_image_id(machine: Machine, project: Project) -> None:
    commit = machine.image("other", {"x": "y"})
    (project.root / "compose.yaml").write_text(f"services:\n  web: {{image: {commit[:6]}}}\n")
    with pytest.raises(NotFound, match="no image"):
        _commit(project)


def test_signatures(project: Project) -> None:
    made = _commit(project)
    owner = project.workspace.key().public
    other = PrivateKey.generate()
    assert verify_commit(project.repo, made.commit, [other.public, owner]) == owner
    assert signers(project.repo, made.commit) == (owner,)
    with pytest.raises(TrustError, match="not signed by a trusted key"):
        verify_commit(project.repo, made.commit, [other.public])
    sign_commit(project.repo, made.commit, other)
    sign_commit(project.repo, made.commit, other)
    assert len(project.repo.read_detached(made.commit)[SIGNATURE_KEY]) == 2
    assert verify_commit(project.repo, made.commit, [other.public]) == other.public
    assert set(signers(project.repo, made.commit)) == {owner, other.public}
    project.repo.write_detached(made.commit, {})
    with pytest.raises(TrustError, match="not signed: revision"):
        verify_commit(project.repo, made.commit, [owner])
    project.repo.write_detached(made.commit, {SIGNATURE_KEY: [b"short"]})
    with pytest.raises(InvalidInput, match="64 bytes"):
        verify_commit(project.repo, made.commit, [owner])


def test_a_changed_commit_object_is_noticed(project: Project) -> None:
    from wherry.store.format.objects import ObjectType

    made = _commit(project)
    path = project.repo.object_path(ObjectType.COMMIT, made.commit)
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.unlink()
    path.write_bytes(data)
    with pytest.raises(IntegrityError, match="checksum"):
        verify_commit(project.repo, made.commit, [made.key])


# --- what belongs to a commit


def test_only_what_belongs_is_taken(project: Project) -> None:
    for path in ("README.md", "notes/a", "notes/b", "layers/x/y", "config/web/sub/z"):
        (project.root / path).parent.mkdir(parents=True, exist_ok=True)
        (project.root / path).write_text(path)
    (project.root / ".git").mkdir()
    (project.root / ".git/config").write_text("secret")
    assert project.status().untracked == ("README.md", "notes/")
    made = _commit(project)
    assert sorted(path for path, _ in files_of(project.repo, made.commit)) == [
        "compose.yaml",
        "config/web/index.html",
        "config/web/sub/z",
        "layers/x/y",
        "wherry.yaml",
    ]
    record.add(project, ["notes/a"])
    assert project.status().staged == (("notes/a", "added"),)
    assert project.status().untracked == ("README.md", "notes/b")
    record.add(project, [""])
    assert not project.status().untracked
    later = _commit(project, "all")
    found = [path for path, _ in files_of(project.repo, later.commit)]
    assert {"README.md", "notes/a", "notes/b"} <= set(found)
    assert not any(".git" in path or ".wherry" in path for path in found)


def test_staging_works_as_in_git(project: Project) -> None:
    _commit(project)
    compose, page = project.root / "compose.yaml", project.root / "config/web/index.html"
    compose.write_text(_COMPOSE.replace("UTC", "CET"))
    page.write_text("changed\n")
    record.add(project, ["config"])
    page.write_text("changed again\n")
    status = project.status()
    assert status.staged == (("config/web/index.html", "changed"),)
    assert status.modified == (("compose.yaml", "changed"), ("config/web/index.html", "changed"))
    made = _commit(project, "the page")
    assert made.revision.apps["web"].environment == {"TZ": "UTC"}
    assert read_path(project.repo, made.commit, "config/web/index.html", max_bytes=100) == b"changed\n"
    record.add(project, ["config"])
    made = _commit(project, "everything", take_all=True)
    assert made.revision.apps["web"].environment == {"TZ": "CET"}


def test_removals(project: Project) -> None:
    (project.root / "README").write_text("x")
    record.add(project, ["README"])
    _commit(project, take_all=True)
    (project.root / "README").unlink()
    (project.root / "config/web/index.html").unlink()
    assert project.status().modified == (("README", "removed"), ("config/web/index.html", "removed"))
    record.add(project, ["README"])
    assert project.status().staged == (("README", "removed"),)
    made = _commit(project, "gone", take_all=True)
    assert made.revision.apps["web"].config is None
    assert [path for path, _ in files_of(project.repo, made.commit)] == ["compose.yaml", "wherry.yaml"]


def test_a_file_that_becomes_a_folder(project: Project) -> None:
    (project.root / "config/web/a").write_text("x")
    _commit(project)
    (project.root / "config/web/a").unlink()
    (project.root / "config/web/a").mkdir()
    (project.root / "config/web/a/b").write_text("y")
    made = _commit(project, "second")
    found = [path for path, _ in files_of(project.repo, made.commit)]
    assert "config/web/a/b" in found
    assert "config/web/a" not in found


def test_the_executable_bit_is_a_change(project: Project) -> None:
    _commit(project)
    (project.root / "config/web/index.html").chmod(0o755)
    assert project.status().modified == (("config/web/index.html", "changed"),)
    _commit(project, "executable")


def test_a_project_may_change_its_name(project: Project) -> None:
    first = _commit(project)
    manifest = project.root / "wherry.yaml"
    manifest.write_text(manifest.read_text().replace("kiosk", "panel"))
    second = _commit(project, "renamed")
    assert second.parent == first.commit
    assert project.workspace.head_ref() == "revision/panel"
    assert project.workspace.head() == second.commit


# --- what is refused


def test_paths_that_cannot_be_added(project: Project) -> None:
    (project.root / "revision.json").write_text("{}")
    os.mkfifo(project.root / "pipe")
    (project.root / os.fsdecode(b"caf\xe9")).write_text("x")
    with pytest.raises(NotFound, match=r"no such file.*nowhere"):
        record.add(project, ["nowhere"])
    with pytest.raises(InvalidInput, match=r"revision.json is written by"):
        record.add(project, ["revision.json"])
    with pytest.raises(InvalidInput, match="never goes into"):
        record.add(project, [".wherry/key"])
    with pytest.raises(InvalidInput, match="neither a file nor a link"):
        record.add(project, ["pipe"])
    with pytest.raises(InvalidInput, match="not UTF-8"):
        record.add(project, [""])
    assert project.workspace.index() == {}


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("config/hostname", r"a file in config/ belongs to an app: config/hostname; move it to config/APP/"),
        ("config/wbe/a", r"config/wbe/ belongs to no app of compose.yaml: config/wbe/a; the apps are: db, web"),
    ],
)
def test_configuration_of_nobody(project: Project, path: str, message: str) -> None:
    (project.root / path).parent.mkdir(parents=True, exist_ok=True)
    (project.root / path).write_text("x")
    with pytest.raises(InvalidInput, match=message):
        _commit(project)
    assert project.status().problem is not None


def test_an_unknown_image_is_named_with_its_line(project: Project) -> None:
    (project.root / "compose.yaml").write_text("services:\n  web:\n    image: nginx:1.2\n")
    with pytest.raises(NotFound, match=r"no image 'nginx:1.2' on this machine: compose.yaml:3:12; import it") as error:
        _commit(project)
    assert error.value.exit_code == 3
    assert project.workspace.head() is None
    assert project.workspace.index() == {}


def test_a_health_check_needs_a_test(machine: Machine, project: Project) -> None:
    machine.image("web:1.0", {"bin/web": "one"})
    with pytest.raises(InvalidInput, match=r"services.web.healthcheck; add test"):
        _commit(project)


def test_waiting_for_health_needs_a_health_check(project: Project) -> None:
    waiting = (
        "services:\n  web: {image: web:1.0, depends_on: {db: {condition: service_healthy}}}\n  db: {image: db%s}\n"
    )
    (project.root / "compose.yaml").write_text(waiting % "")
    with pytest.raises(InvalidInput, match=r"db has no health check.*services.web.depends_on.db"):
        _commit(project)
    (project.root / "compose.yaml").write_text(waiting % ", healthcheck: {test: x}")
    _commit(project)


def test_two_names_are_refused(project: Project) -> None:
    (project.root / "compose.yaml").write_text("name: other\nservices: {}\n")
    with pytest.raises(InvalidInput, match=r"two names: 'other' in compose.yaml, 'kiosk' in wherry.yaml"):
        _commit(project)


@pytest.mark.parametrize("message", ["", "  \n ", "a\0b", "x" * 70_000])
def test_messages(project: Project, message: str) -> None:
    with pytest.raises(InvalidInput, match="message"):
        record.commit(project, message)


def test_without_a_key_nothing_happens(project: Project) -> None:
    project.workspace.key_path.chmod(0o644)
    with pytest.raises(NotPermitted, match="chmod 600"):
        _commit(project)
    project.workspace.key_path.unlink()
    with pytest.raises(NotFound, match="--key FILE"):
        _commit(project)
    made = record.commit(project, "with another", key=PrivateKey.generate())
    assert made is not None


def test_without_a_compose_file(project: Project) -> None:
    (project.root / "compose.yaml").unlink()
    with pytest.raises(NotFound, match=r"lacks a file: compose.yaml"):
        _commit(project)


# --- clocks, locks, crashes


def test_time_never_runs_backwards(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    first = record.commit(project, "first")
    assert first is not None
    assert not first.clock_is_wrong
    monkeypatch.setattr(time, "time", lambda: 1000.0)
    (project.root / "config/web/index.html").write_text("x")
    second = record.commit(project, "second")
    assert second is not None
    assert second.clock_is_wrong
    assert second.time_s == first.time_s


def test_one_at_a_time(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workspace, "LOCK_TIMEOUT_S", 0.1)
    inside, go_on = threading.Event(), threading.Event()

    def hold() -> None:
        with project.workspace.lock():
            inside.set()
            go_on.wait(10)

    thread = threading.Thread(target=hold)
    thread.start()
    inside.wait(10)
    try:
        with pytest.raises(Locked, match="the project is in use by another process"):
            _commit(project)
    finally:
        go_on.set()
        thread.join()
    _commit(project)


class _Killed(BaseException):
    pass


@pytest.mark.parametrize(
    "point",
    ["revision.commit.staged", "revision.commit.written", "store.transaction.ref", "revision.commit.done"],
)
def test_killed_while_committing(project: Project, point: str) -> None:
    first = _commit(project)
    (project.root / "config/web/index.html").write_text("changed\n")

    def kill() -> None:
        raise _Killed

    trace.arm(point, kill)
    try:
        with pytest.raises(_Killed):
            _commit(project, "second")
    finally:
        trace.disarm()
    again = Project.find(project.root, project._machine_store)
    head = again.workspace.head()
    if head == first.commit:
        assert _commit(again, "second").parent == first.commit
    else:
        assert head is not None
        verify_commit(again.repo, head, [first.key])
        assert again.status().clean
    assert again.status().clean


# --- a damaged workspace


def test_damage_is_named(project: Project) -> None:
    _commit(project)
    folder = project.workspace.path
    (folder / "index").write_text("{")
    with pytest.raises(InvalidInput, match=r"damaged: not JSON.*index; remove it"):
        project.status()
    (folder / "index").write_text('{"files":{"../x":{"checksum":"%s","kind":"file"}}}' % ("0" * 64))
    with pytest.raises(InvalidInput, match="damaged"):
        project.status()
    (folder / "index").unlink()
    assert project.status().clean
    (folder / "remotes").write_text("[]")
    with pytest.raises(InvalidInput, match=r"damaged.*remotes"):
        project.workspace.remotes()
    (folder / "HEAD").write_text("ref: refs/heads/../x\n")
    with pytest.raises(InvalidInput, match=r"damaged.*HEAD; write `ref: revision/NAME`"):
        project.status()
    (folder / "HEAD").write_text("ref: revision/kiosk\n")
    shutil.rmtree(folder / "store")
    with pytest.raises(NotFound, match="store is gone"):
        Project.find(project.root, project._machine_store)
    (folder / "format").write_text("2\n")
    with pytest.raises(Exception, match="a workspace of format '2'"):
        Project.find(project.root / "config", project._machine_store)
