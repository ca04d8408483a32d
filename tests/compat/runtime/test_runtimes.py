"""One bundle, three runtimes' commands: runc, crun and ours give the same output, statuses and states."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
import uuid
from pathlib import Path
from typing import Any

import pytest
from tests.fixtures.busybox import make_tree

OURS = str(Path(sys.executable).with_name("wherry-runc"))
# crun refuses hosts where a controller is on version 2 beside others on version 1; it is shown version 1 alone.
HIDE = "umount /sys/fs/cgroup/unified 2>/dev/null; exec "
RUNTIMES = ("runc", "crun", "wherry-runc")
LOOK = """
id; echo $HOME; pwd; umask; grep -e Cap -e NoNew -e Seccomp: -e Cpus_allowed_list /proc/self/status; ulimit -n -f
hostname; cat /proc/self/oom_score_adj; ls /proc/self/fd | wc -l; env | sort
"""


STORY = (
    *(("create",), ("state",), ("create",), ("start",), ("state",), ("start",), ("delete",), ("exec", "true")),
    *(("kill", "KILL"), ("delete", "--force"), ("state",), ("start",), ("kill", "KILL")),
    ("delete", "--force"),
)
"""What is done to a container, one after the other; much of it is to be refused."""


class Runtime:
    """One runtime with a bundle and states of its own."""

    def __init__(self, name: str, base: Path) -> None:
        self.name = name
        self.base = base / name
        self.base.mkdir()
        make_tree(
            self.base / "rootfs",
            "sh cat echo env grep hostname id ls pwd sleep sort true wc",
            folders="proc sys dev tmp",
        )
        self.container = f"same-{uuid.uuid4().hex[:8]}"
        program = OURS if name == "wherry-runc" else name
        self.program = [program, "--root", str(self.base / "states")]
        subprocess.run(["runc", "spec"], cwd=self.base, check=True)

    def change(self, process: dict[str, Any], **linux: Any) -> None:
        file = self.base / "config.json"
        config = json.loads(file.read_text())
        config["process"].update(terminal=False, **process)
        config["root"]["readonly"] = False
        config["hostname"] = "same"
        config["linux"].update(linux)
        file.write_text(json.dumps(config))

    def call(self, *args: str) -> subprocess.CompletedProcess[str]:
        words = [*self.program, *args]
        if self.name == "crun":
            words = ["unshare", "-m", "sh", "-c", HIDE + shlex.join(words)]
        out = self.base / "out"
        with out.open("w") as file:
            done = subprocess.run(
                words, cwd=self.base, stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT, check=False
            )
        return subprocess.CompletedProcess(words, done.returncode, out.read_text())


def run_all(tmp_path: Path, process: dict[str, Any], **linux: Any) -> list[tuple[int, str]]:
    found = []
    for name in RUNTIMES:
        runtime = Runtime(name, tmp_path)
        runtime.change(process, **linux)
        done = runtime.call("run", runtime.container)
        runtime.call("delete", "--force", runtime.container)
        found.append((done.returncode, done.stdout))
    return found


@pytest.mark.parametrize(
    "process",
    [
        {},
        {"user": {"uid": 1000, "gid": 1001, "additionalGids": [5, 6], "umask": 0o027}},
        {"noNewPrivileges": False, "oomScoreAdj": 100, "cwd": "/tmp/not/there"},
        {"rlimits": [{"type": "RLIMIT_NOFILE", "soft": 100, "hard": 200}], "env": ["PATH=/bin", "HOME=/x", "A="]},
        {
            "capabilities": {
                name: ["CAP_CHOWN"] for name in ("bounding", "effective", "permitted", "inheritable", "ambient")
            }
        },
    ],
)
def test_a_process_sees_the_same(tmp_path: Path, process: dict[str, Any]) -> None:
    runc, crun, ours = run_all(tmp_path, {"args": ["sh", "-c", LOOK], **process})
    assert ours[0] == runc[0] == crun[0] == 0, (ours, runc, crun)
    assert ours[1] == runc[1]
    # crun sets no HOME for a user whom no file names, among others; what the process may do is the same.
    assert status_lines(crun[1]) == status_lines(ours[1])


def status_lines(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith(("Cap", "NoNewPrivs", "Seccomp"))]


@pytest.mark.parametrize(("args", "fails"), [(["true"], False), (["sh", "-c", "exit 9"], True), (["none"], True)])
def test_statuses(tmp_path: Path, args: list[str], fails: bool) -> None:
    statuses = [status for status, _ in run_all(tmp_path, {"args": args})]
    assert [status != 0 for status in statuses] == [fails] * 3
    if args[0] != "none":
        assert len(set(statuses)) == 1


def test_states_and_refusals(tmp_path: Path) -> None:
    seen = []
    for name in RUNTIMES:
        runtime = Runtime(name, tmp_path)
        runtime.change({"args": ["sleep", "1000"]})
        story: list[object] = []
        try:
            for words in STORY:
                options = tuple(word for word in words[1:] if word.startswith("-"))
                rest = tuple(word for word in words[1:] if not word.startswith("-"))
                done = runtime.call(words[0], *options, runtime.container, *rest)
                story.append((words, done.returncode == 0))
                if words[0] == "state" and done.returncode == 0:
                    state = json.loads(done.stdout)
                    story.append((state["status"], state["pid"] > 0, state["bundle"] == str(runtime.base)))
        finally:
            runtime.call("delete", "--force", runtime.container)
        seen.append(story)
    assert seen[2] == seen[0]
    assert seen[2] == seen[1]
