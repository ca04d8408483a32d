"""The runtime for a real unprivileged user: a user namespace with that user alone, without control groups."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.integration.runtime.bundles import Bundle

UID = 54321
SETPRIV = ("setpriv", "--reuid", str(UID), "--regid", str(UID), "--clear-groups", "--no-new-privs")


@pytest.fixture
def bundle(tmp_path: Path, busybox_tree: Path) -> Iterator[Bundle]:
    place = tmp_path
    while place != Path("/tmp"):
        place.chmod(0o755)
        place = place.parent
    base = tmp_path / "home"
    base.mkdir()
    shutil.copytree(busybox_tree, base / "rootfs", symlinks=True)
    for folder, folders, files in os.walk(base):
        for name in (".", *folders, *files):
            os.lchown(os.path.join(folder, name), UID, UID)
    (base / "bundle").mkdir()
    os.chown(base / "bundle", UID, UID)
    found = Bundle(base / "bundle", base / "rootfs", prefix=SETPRIV)
    yield found
    found.close()


def test_run(bundle: Bundle) -> None:
    script = "id -u; cat /proc/self/uid_map /proc/self/setgroups; echo $$; hostname; touch /made && ls -ln /made"
    bundle.runs("sh", "-c", script)
    uid, ranges, setgroups, pid, host, made = bundle.ok("run", "-b", str(bundle.path), "one").splitlines()
    assert (uid, ranges.split(), setgroups, pid, host) == ("0", ["0", str(UID), "1"], "deny", "1", "wherry")
    assert made.split()[2:4] == ["0", "0"]


def test_life_and_exec(bundle: Bundle) -> None:
    bundle.runs("sleep", "1000")
    bundle.ok("create", "-b", str(bundle.path), "one")
    bundle.ok("start", "one")
    assert bundle.state("one")["status"] == "running"
    assert bundle.state("one")["owner"] == str(UID)
    assert bundle.ok("exec", "one", "sh", "-c", "id -u; hostname").split() == ["0", "wherry"]
    pids = json.loads(bundle.ok("ps", "--format", "json", "one"))
    assert pids == [bundle.state("one")["pid"]]
    bundle.ok("delete", "--force", "one")
    assert bundle.ok("list", "-q") == ""


def test_what_it_has_no_rights_for_is_refused_in_a_line(bundle: Bundle) -> None:
    bundle.change(lambda config: config["linux"].update(resources={"memory": {"limit": 1 << 26}}))
    found = bundle.call("run", "-b", str(bundle.path), "one")
    assert (found.returncode, found.stderr.count("\n")) == (11, 1)
    bundle.change(lambda config: config["linux"].update(resources={}))
    bundle.change(
        lambda config: config["linux"].update(uidMappings=[{"containerID": 0, "hostID": 100_000, "size": 10}])
    )
    found = bundle.call("run", "-b", str(bundle.path), "one")
    assert found.returncode in (10, 13)
    assert found.stderr.count("\n") <= 2
