"""``wherry fleet`` against a real hub."""

from __future__ import annotations

import json
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.integration.hub.conftest import PASSWORD, Device, HubProcess, make_revision, push

from wherry.spec.wire import UpdateState
from wherry.store.repository import Repository
from wherry.trust.keys import PrivateKey

Fleet = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def fleet(hub: HubProcess, tmp_path: Path) -> Fleet:
    def run(*args: str, password: str = PASSWORD) -> subprocess.CompletedProcess[str]:
        env = {
            **hub.environment(),
            "XDG_CONFIG_HOME": str(tmp_path / "config"),
            "WHERRY_HUB_PASSWORD": password,
            "TZ": "UTC",
        }
        return subprocess.run(
            hub.command("fleet", *args), env=env, capture_output=True, text=True, check=False, timeout=60
        )

    return run


def test_a_day_with_the_fleet(hub: HubProcess, repo: Repository, tmp_path: Path, fleet: Fleet) -> None:
    nobody = fleet("devices")
    assert nobody.returncode == 2
    assert "run `wherry fleet login URL`" in nobody.stderr
    wrong = fleet("login", hub.url, password="wrong password")
    assert wrong.returncode == 10
    assert PASSWORD not in wrong.stderr

    assert fleet("login", hub.url).returncode == 0
    kept = tmp_path / "config" / "wherry" / "credentials.json"
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    token = fleet("token", "create", "--uses=3", "--note=first batch").stdout.strip()
    device = Device(url=hub.url, key=PrivateKey.generate())
    device.enrol(token, "kiosk-in-the-harbour-7")
    assert token not in fleet("token", "list").stdout

    commit, component = make_revision(repo, subject="first light, with a rather long subject line that goes on")
    push(hub.login(), repo, commit, component)
    assert commit[:12] in fleet("revisions").stdout
    refused = fleet("assign", "kiosk-in-the-harbour-7", commit[:7])
    assert refused.returncode == 4
    assert "accept it first" in refused.stderr
    assert fleet("accept", device.id[:6]).returncode == 0
    device.session()
    assert fleet("assign", device.id[:6], "kiosk").returncode == 0
    assert device.desired()["revision"] == commit
    device.report(
        UpdateState.ROLLED_BACK, assignment=1, running=None, revision=commit, detail="web: unhealthy after 3 tries"
    )
    history = fleet("history", "kiosk-in-the-harbour-7").stdout
    assert "rolled-back" in history
    assert "web: unhealthy after 3 tries" in history
    lines = json.loads(fleet("history", device.id, "--json").stdout)
    assert [line["event"] for line in lines] == ["rolled-back", "assigned", "accepted", "enrolled"]
    assert lines[2]["by"] == "admin"
    table = fleet("devices").stdout
    assert "rolled-back" in table
    listed = json.loads(fleet("devices", "--json").stdout)
    assert (listed[0]["desired"], listed[0]["current"], listed[0]["update_state"]) == (commit, None, "rolled-back")
    narrow = [line[:72] for line in table.splitlines()]
    assert "SUBJECT" not in narrow[0][:60]

    assert fleet("assign", "kiosk-in-the-harbour-7", "ffff").returncode == 3
    assert fleet("accept", "nothing").returncode == 3
    assert fleet("reject", device.id).returncode == 0
    assert fleet("rm", device.id).returncode == 0
    assert json.loads(fleet("devices", "--json").stdout) == []
    assert fleet("logout").returncode == 0
    assert fleet("devices").returncode == 2


def test_a_hub_that_is_down(hub: HubProcess, fleet: Fleet) -> None:
    assert fleet("login", hub.url).returncode == 0
    hub.stop()
    down = fleet("devices")
    assert down.returncode == 8
    assert down.stderr.count("\n") == 1
    assert hub.url in down.stderr


def test_the_table_fits_80_columns() -> None:
    from wherry.cli.fleet import device_rows
    from wherry.spec.wire import DeviceInfo, DeviceState

    info = DeviceInfo(
        id="a" * 32, name="kiosk-lobby-12", state=DeviceState.ACCEPTED, current="b" * 64, desired="c" * 64,
        update_state=UpdateState.ROLLED_BACK, last_seen_s=0,
    )  # fmt: skip
    row = device_rows([info], {"b" * 64: ""})[0]
    assert sum(len(cell) + 2 for cell in row) <= 70
