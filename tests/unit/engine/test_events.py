"""Events: each line whole, whoever writes; rotation loses nothing that is still kept; followed without polling."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from wherry.core.jsonio import loads
from wherry.engine import events
from wherry.engine.events import emit, format_line, matches, read


class Place:
    def __init__(self, run: Path) -> None:
        self.run = run


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def test_a_line_is_dockers_message() -> None:
    line = format_line(
        "die", kind="container", actor_id="ab", attributes={"image": "busybox", "exitCode": 3}, time_ns=1_500_000_000
    )
    assert loads(line) == {
        "Type": "container",
        "Action": "die",
        "Actor": {"ID": "ab", "Attributes": {"image": "busybox", "exitCode": "3"}},
        "status": "die",
        "id": "ab",
        "from": "busybox",
        "scope": "local",
        "time": 1,
        "timeNano": 1_500_000_000,
    }
    assert line.count(b"\n") == 1
    assert line.endswith(b"\n")


@pytest.mark.parametrize("text", ['quo"te', "new\nline", "\0", "\udc80", "ü", "\x1b[31m"])
def test_what_a_user_writes_stays_one_line(text: str) -> None:
    line = format_line("create", kind="container", actor_id="ab", attributes={"label": text, text: "x"}, time_ns=0)
    assert loads(line)["Actor"]["Attributes"] == {"label": text, text: "x"}
    assert line.count(b"\n") == 1


def test_a_line_is_bounded_however_many_labels_there_are() -> None:
    many = {f"label{number}": "\x01" * 2000 for number in range(200)}
    line = format_line("create", kind="container", actor_id="ab", attributes=many, time_ns=0)
    assert len(line) <= events.MAX_LINE_BYTES
    assert loads(line)["Action"] == "create"


def test_what_was_told_is_read_in_order_and_filtered(place: Place) -> None:
    emit(place, "create", actor_id="a1", name="web", attributes={"image": "busybox:1", "tier": "front"})
    emit(place, "exec_start: sh", actor_id="a1", name="web")
    emit(place, "create", type="volume", actor_id="data")

    def actions(**filters: list[str]) -> list[str]:
        return [event["Action"] for event in read(place, filters=filters, follow=False)]

    assert actions() == ["create", "exec_start: sh", "create"]
    assert actions(event=["exec_start"]) == ["exec_start: sh"]
    assert actions(type=["volume"]) == ["create"]
    assert actions(container=["web"]) == ["create", "exec_start: sh"]
    assert actions(container=["a1"], event=["create"]) == ["create"]
    assert actions(container=["we"]) == []
    assert actions(label=["tier=front"]) == ["create"]
    assert actions(label=["tier=back"]) == []
    assert actions(image=["busybox"]) == ["create"]
    assert actions(volume=["data"]) == ["create"]
    assert actions(event=["create", "exec_start"], container=["web"]) == ["create", "exec_start: sh"]


def test_time_bounds(place: Place) -> None:
    emit(place, "create", actor_id="a")
    between = time.time()
    emit(place, "start", actor_id="a")
    assert [event["Action"] for event in read(place, since_s=between, follow=False)] == ["start"]
    assert [event["Action"] for event in read(place, until_s=between, follow=False)] == ["create"]


def test_a_torn_line_is_stepped_over(place: Place) -> None:
    emit(place, "create", actor_id="a")
    with open(place.run / events.FILE_NAME, "ab") as file:
        file.write(b'{"Type":"container","Act\nnull\n[]\n')
    emit(place, "start", actor_id="a")
    assert [event["Action"] for event in read(place, follow=False)] == ["create", "start"]


def test_nothing_is_raised_where_nothing_can_be_written(tmp_path: Path) -> None:
    emit(Place(tmp_path / "not there"), "create", actor_id="a")
    (tmp_path / events.FILE_NAME).symlink_to("/etc/passwd")
    emit(Place(tmp_path), "create", actor_id="a")
    assert "create" not in Path("/etc/passwd").read_text()


def _write_many(run: str, writer: int, count: int) -> None:
    for number in range(count):
        emit(Place(Path(run)), "tick", actor_id=f"{writer}", attributes={"number": number, "pad": "x" * 900})


def test_several_processes_write_while_the_file_is_rotated(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "MAX_FILE_BYTES", 64 * 1024)
    context = multiprocessing.get_context("fork")
    count, writers = 60, 4

    emit(place, "first", actor_id="x")
    workers = [context.Process(target=_write_many, args=(str(place.run), number, count)) for number in range(writers)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
        assert worker.exitcode == 0
    assert (place.run / f"{events.FILE_NAME}.1").exists()
    assert (place.run / events.FILE_NAME).stat().st_size <= 64 * 1024
    kept = list(read(place, follow=False))
    for writer in range(writers):
        numbers = [int(e["Actor"]["Attributes"]["number"]) for e in kept if e["Actor"]["ID"] == str(writer)]
        assert numbers == sorted(set(numbers)), "a writer's events are in order, and none stands twice"
    for name in (events.FILE_NAME, f"{events.FILE_NAME}.1"):
        for line in (place.run / name).read_bytes().splitlines():
            loads(line)


def test_a_reader_that_keeps_up_misses_nothing_over_many_rotations(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "MAX_FILE_BYTES", 4096)
    stream = read(place, since_s=0.0)
    for number in range(100):
        emit(place, "tick", actor_id="a", attributes={"number": number, "pad": "x" * 500})
        assert next(stream)["Actor"]["Attributes"]["number"] == str(number)


def test_following_ends_at_a_time_to_come(place: Place) -> None:
    assert list(read(place, until_s=time.time() + 0.05)) == []
    emit(place, "start", actor_id="a")
    assert list(read(place, since_s=0, until_s=time.time() - 1)) == []


def test_a_follower_is_woken(place: Place) -> None:
    stream = read(place, since_s=0.0)
    timer = threading.Timer(0.05, emit, args=(place, "start"), kwargs={"actor_id": "a"})
    timer.start()
    assert next(stream)["Action"] == "start"
    timer.join()


def test_emit_imports_nothing_heavy() -> None:
    code = (
        "import sys; before = set(sys.modules); import wherry.engine.events;print(*sorted(set(sys.modules) - before))"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", f"import sys; sys.path[:0] = {sys.path!r}; {code}"],
        capture_output=True,
        text=True,
        check=True,
        env=dict(os.environ),
    )
    loaded = set(done.stdout.split())
    assert not loaded & {"json", "re", "dataclasses", "pathlib", "typing", "contextlib", "ctypes", "enum"}, loaded


def test_labels_must_all_fit() -> None:
    event = loads(format_line("x", kind="container", actor_id="a", attributes={"a": "1", "b": "2"}, time_ns=0))
    assert matches(event, {"label": ["a", "b=2"]})
    assert not matches(event, {"label": ["a", "b=3"]})
