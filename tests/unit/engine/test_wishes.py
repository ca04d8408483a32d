"""The wish for a container's end, when several people have one at once."""

from __future__ import annotations

import threading
from pathlib import Path
from signal import SIGKILL, SIGTERM

import pytest

from wherry.core.errors import NotFound
from wherry.engine import state
from wherry.engine.loop import Loop, Timers

ID = "a" * 64


@pytest.fixture
def paths(tmp_path: Path) -> state.Paths:
    paths = state.Paths(str(tmp_path / "root"), str(tmp_path / "run"))
    paths.make()
    Path(paths.run_dir(ID)).mkdir()
    return paths


def wish(paths: state.Paths, number: int, timeout_s: float | None, event: str = "") -> None:
    state.write_stop(paths, ID, signal_number=number, timeout_s=timeout_s, event=event)


@pytest.mark.parametrize("kill_first", [True, False])
def test_a_stop_at_the_same_time_does_not_undo_a_kill(paths: state.Paths, kill_first: bool) -> None:
    assert state.read_stop(paths, ID) is None
    for kill in (kill_first, not kill_first):
        wish(paths, SIGKILL, None) if kill else wish(paths, SIGTERM, 600.0, "stop")
    found = state.read_stop(paths, ID)
    assert found == {"signal": SIGKILL, "timeout_s": None, "event": "stop"}
    state.forget_stop(paths, ID)
    assert state.read_stop(paths, ID) is None
    assert not list(Path(paths.run_dir(ID)).iterdir())


def test_threads_write_the_same_file_without_harm(paths: state.Paths) -> None:
    problems: list[Exception] = []

    def write() -> None:
        try:
            for _ in range(200):
                wish(paths, SIGTERM, 1.0)
        except Exception as error:
            problems.append(error)

    threads = [threading.Thread(target=write) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not problems
    assert [path.name for path in Path(paths.run_dir(ID)).iterdir()] == ["stop"]


def test_a_container_that_is_gone_is_not_found(paths: state.Paths) -> None:
    Path(paths.run_dir(ID)).rmdir()
    with pytest.raises(NotFound, match="its folder is gone"):
        wish(paths, SIGTERM, 1.0)


def test_a_later_wish_does_not_put_off_an_earlier_end() -> None:
    loop, called = Loop(), []
    timers = Timers(loop)
    timers.sooner("kill", 0.02, lambda: called.append("first"))
    timers.sooner("kill", 600, lambda: called.append("second"))
    loop.turn()
    assert called == ["first"]
    timers.sooner("kill", 0.02, lambda: called.append("after it was called"))
    timers.sooner("kill", 0.01, lambda: called.append("sooner"))
    loop.turn()
    assert called == ["first", "sooner"]
    timers.cancel_all()
    loop.close()
