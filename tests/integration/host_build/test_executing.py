"""Steps are taken once, in sandboxes, and what fails or is cut short leaves nothing that counts."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from wherry.build.executing import Execution, StepFailed, forget
from wherry.build.steps import Place, Plan, Step
from wherry.core.errors import ToolError


def execution(tmp_path: Path) -> Execution:
    return Execution(cache=tmp_path / "cache", work=tmp_path / "work", epoch=1234)


def shell(
    name: str, script: str, *needs: str, network: bool = False, makes_roots: bool = False, version: str = ""
) -> Step:
    def work(place: Place) -> None:
        place.run(["sh", "-euc", script])

    return Step(
        name=name,
        what=f"do {name}",
        work=work,
        inputs={"script": script, "version": version},
        needs=needs,
        network=network,
        makes_roots=makes_roots,
    )


def test_a_step_is_taken_once_and_again_when_what_it_depends_on_changes(tmp_path: Path) -> None:
    first = shell("first", "echo one >/build/output/a")
    second = shell("second", "cat /build/in/first/a >/build/output/b", "first")
    found = execution(tmp_path).take(Plan(steps=(first, second)), ["second"])
    assert [(name, result.cached) for name, result in found.items()] == [("first", False), ("second", False)]
    assert (found["second"].path / "b").read_text() == "one\n"
    again = execution(tmp_path).take(Plan(steps=(first, second)), ["second"])
    assert [(name, result.cached) for name, result in again.items()] == [("second", True)]
    other = shell("first", "echo two >/build/output/a")
    changed = execution(tmp_path).take(Plan(steps=(other, second)), ["second"])
    assert [result.cached for result in changed.values()] == [False, False]
    assert (changed["second"].path / "b").read_text() == "two\n"


def test_what_a_step_warns_of_is_told_again_with_its_kept_result(tmp_path: Path) -> None:
    def work(place: Place) -> None:
        place.warn("this is odd")

    step = Step(name="odd", what="do odd things", work=work)
    run = execution(tmp_path)
    (made,), (kept,) = (run.take(Plan(steps=(step,)), ["odd"]).values() for _ in range(2))
    assert [made.cached, kept.cached] == [False, True]
    assert made.warnings == kept.warnings == ("this is odd",)
    assert run.log("odd").read_text() == "warning: this is odd\n"


def test_a_program_sees_no_secrets_no_network_and_writes_nowhere_else(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("x")
    script = f"""
        test ! -e /etc/shadow; test ! -e {tmp_path}/secret; test ! -e /work -o ! -w /work
        ! touch /usr/x 2>/dev/null; ! touch /build/downloads/x 2>/dev/null; ! touch /etc/passwd 2>/dev/null
        test "$(ls /sys/class/net 2>/dev/null | wc -l)" = 0
        test "$(grep -c : /proc/net/dev)" = 1
        test "$SOURCE_DATE_EPOCH" = 1234; test "$LC_ALL" = C.UTF-8; test -z "${{WHERRY_TEST-}}"
        ! mount -t tmpfs none /tmp 2>/dev/null
        echo done >/build/output/done
    """
    os.environ["WHERRY_TEST"] = "1"
    try:
        found = execution(tmp_path).take(Plan(steps=(shell("look", script),)), ["look"])
    finally:
        del os.environ["WHERRY_TEST"]
    assert (found["look"].path / "done").read_text() == "done\n"


def test_a_step_that_fetches_has_the_network_and_keeps_what_it_fetched(tmp_path: Path) -> None:
    script = f"test $(readlink /proc/self/ns/net) = '{os.readlink('/proc/self/ns/net')}'; echo x >/build/downloads/x"
    execution(tmp_path).take(Plan(steps=(shell("fetch", script, network=True),)), ["fetch"])
    assert (tmp_path / "cache/downloads/x").read_text() == "x\n"


def test_a_step_that_makes_roots_mounts_and_makes_nodes(tmp_path: Path) -> None:
    script = "cd /build/output; mkdir proc; mount -t proc proc proc; umount proc; mknod null c 1 3"
    found = execution(tmp_path).take(Plan(steps=(shell("root", script, makes_roots=True),)), ["root"])
    assert (found["root"].path / "null").is_char_device()


def test_a_failed_step_says_where_and_leaves_itself_to_be_looked_at(tmp_path: Path) -> None:
    run = execution(tmp_path)
    step = shell("bad", "echo half >/build/output/half; echo the end >&2; exit 3")
    with pytest.raises(StepFailed, match="step bad failed: exit status 3") as failed:
        run.take(Plan(steps=(step,)), ["bad"])
    assert failed.value.exit_code == ToolError.exit_code
    assert failed.value.tail == ("the end",)
    assert "the end" in failed.value.log.read_text()
    assert (run.again(step, {}).output / "half").read_text() == "half\n"
    assert not list((tmp_path / "cache/results").iterdir())
    good = shell("bad", "echo whole >/build/output/half")
    found = run.take(Plan(steps=(good,)), ["bad"])
    assert (found["bad"].path / "half").read_text() == "whole\n"
    assert not (tmp_path / "work/failed/bad").exists()


def test_a_program_that_is_not_there_is_told(tmp_path: Path) -> None:
    step = Step(name="none", what="", work=lambda place: place.run(["no-such-program"]))
    with pytest.raises(StepFailed, match="command not found"):
        execution(tmp_path).take(Plan(steps=(step,)), ["none"])


def test_what_a_program_prints_can_be_read(tmp_path: Path) -> None:
    said: list[str] = []

    def work(place: Place) -> None:
        said.append(place.read(["sh", "-c", "echo out; echo err >&2"]))
        place.run(["cat"], stdin=b"in\n", on_line=said.append)

    run = execution(tmp_path)
    run.take(Plan(steps=(Step(name="read", what="", work=work),)), ["read"])
    assert said == ["out\n", "in"]
    assert "err" in run.log("read").read_text()


_KILLED = """
import sys
from pathlib import Path
sys.path[:0] = [{source!r}]
from wherry.build.executing import Execution
from wherry.build.steps import Plan, Step
from wherry.core import trace
trace.arm_by_text({points!r})
{begin}
def work(place):
    (place.output / "a").write_text("a")
    place.run(["sh", "-c", {script!r}])
Execution(cache=Path({cache!r}), work=Path({work!r})).take(Plan(steps=(Step(name="s", what="", work=work),)), ["s"])
"""


def cut(tmp_path: Path, *, points: str = "", script: str = "true", signals: bool = False) -> subprocess.Popen[bytes]:
    source = str(Path(__file__).parents[3] / "src")
    begin = "from wherry.cli.host_context import end_by_signals; end_by_signals()" if signals else ""
    code = _KILLED.format(
        begin=begin,
        source=source,
        points=points,
        script=script,
        cache=str(tmp_path / "cache"),
        work=str(tmp_path / "work"),
    )
    return subprocess.Popen([sys.executable, "-c", code])


def test_a_build_that_is_killed_leaves_no_result_and_no_process(tmp_path: Path) -> None:
    process = cut(tmp_path, script=f"echo $$ >/build/output/pid; exec sleep 987.{os.getpid()}")
    deadline = time.monotonic() + 30
    while not list((tmp_path / "cache").glob("new/*/output/pid")):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    while any(f"987.{os.getpid()}" in line for line in _command_lines()):
        assert time.monotonic() < deadline, "the sandbox outlives the build"
        time.sleep(0.02)
    assert not list((tmp_path / "cache/results").iterdir())
    step = shell("s", "echo again >/build/output/a")
    assert execution(tmp_path).take(Plan(steps=(step,)), ["s"])["s"].cached is False
    assert forget(tmp_path / "cache") > 0
    assert not list((tmp_path / "cache/new").iterdir())
    assert not list((tmp_path / "cache/results").iterdir())


def test_a_build_that_is_told_to_end_leaves_no_control_groups(tmp_path: Path) -> None:
    before = _groups()
    process = cut(tmp_path, script="echo $$ >/build/output/pid; exec sleep 600", signals=True)
    deadline = time.monotonic() + 30
    while not list((tmp_path / "cache").glob("new/*/output/pid")):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert _groups() > before
    process.terminate()
    assert process.wait(timeout=30) == -signal.SIGINT  # how an interpreter ends of a KeyboardInterrupt
    assert _groups() - before == set()
    assert not list((tmp_path / "cache/new").iterdir())


def _groups() -> set[Path]:
    return set(Path("/sys/fs/cgroup").glob("**/build-*"))


def test_a_build_that_is_killed_before_it_publishes_has_published_nothing(tmp_path: Path) -> None:
    assert cut(tmp_path, points="build.step.publish=kill").wait() == -signal.SIGKILL
    assert not list((tmp_path / "cache/results").iterdir())
    assert cut(tmp_path).wait() == 0
    assert len(list((tmp_path / "cache/results").iterdir())) == 1
    assert not list((tmp_path / "cache/new").iterdir())


def test_two_builds_at_once_make_a_result_once(tmp_path: Path) -> None:
    script = "sleep 0.5; echo made >>/build/kept/times"
    both = [cut(tmp_path, script=script) for _ in range(2)]
    assert [process.wait() for process in both] == [0, 0]
    assert (tmp_path / "work/kept/s/times").read_text() == "made\n"


def _command_lines() -> list[str]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            found.append(path.read_bytes().replace(b"\0", b" ").decode(errors="replace"))
        except OSError:
            continue
    return found
