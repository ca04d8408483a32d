"""The words of ``wherry host``, as a person types them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

WHERRY = (sys.executable, "-m", "wherry")


def wherry(tmp_path: Path, *words: str, given: str = "", check: bool = True) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [*WHERRY, "--root", str(tmp_path / "root"), *words],
        input=given,
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=False,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(Path(__file__).parents[3] / "src"), "HOME": str(tmp_path)},
    )
    assert not check or done.returncode == 0, done.stderr
    return done


@pytest.fixture
def layers(tmp_path: Path) -> Path:
    top = tmp_path / "layers"
    (top / "site/kiosk/root_overlay/etc").mkdir(parents=True)
    (top / "site/kiosk/extensions").mkdir()
    (top / "site/kiosk/extensions/Makefile").write_text(
        'say:\n\t@printf "%s %s %s\\n" "$(WORD)" "$$SKIFF_CURRENT_CONF_NAME" "$$WHERRY_WORKSPACE"\nfail:\n\t@exit 7\n'
    )
    (top / "site/kiosk/metadata").mkdir()
    (top / "site/kiosk/metadata/commands").write_text("say Says a word\nfail Fails\n")
    return top


def test_a_workspace_is_begun_with_a_password_that_is_told_once(tmp_path: Path, layers: Path) -> None:
    key = tmp_path / "id.pub"
    key.write_text("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAA me@here\n")
    words = ["host", "new", "my-device", "--target", "virt/qemu,site/kiosk", "--layers-path", str(layers)]
    done = wherry(tmp_path, *words, "--ssh-key", str(key))
    assert done.stdout.strip() == str(tmp_path / "my-device")
    password = done.stderr.split("password ")[1].split()[0]
    table = (tmp_path / "my-device/overrides/users/login").read_text()
    assert password not in table
    assert "core -1 core -1 $6$" in table
    salt = table.split("$6$")[1].split("$")[0]
    hashed = subprocess.run(
        ["openssl", "passwd", "-6", "-salt", salt, "-stdin"], input=password, capture_output=True, text=True, check=True
    ).stdout.strip()
    assert hashed in table
    assert (tmp_path / "my-device/overrides/root_overlay/home/core/.ssh/authorized_keys").read_text() == key.read_text()
    assert "layers_path: [../layers]" in (tmp_path / "my-device/host.yaml").read_text()
    shown = json.loads(wherry(tmp_path, "host", "show", "--json", "my-device").stdout)
    assert shown["layers"][-2:] == ["site/kiosk", "overrides/my-device"]
    assert (shown["builder"], shown["architecture"], shown["built"]) == ("debian", "amd64", None)
    listed = json.loads(wherry(tmp_path, "host", "ls", "--json").stdout)
    assert [row["name"] for row in listed] == ["my-device"]
    plan = wherry(tmp_path, "host", "plan", check=False)
    assert (plan.returncode, "wherry host lock" in plan.stderr) == (3, True)
    again = wherry(tmp_path, *words, check=False)
    assert (again.returncode, "something already" in again.stderr) == (4, True)


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (("new", "x"), 2, "which layers?"),
        (("new", "x", "--target", "no/such"), 3, "no layer 'no/such'"),
        (("new", "X", "--target", "virt/qemu"), 5, "not a name for a host"),
        (("new", "x", "--target", "virt/qemu", "--arch", "vax"), 5, "not an architecture"),
        (("new", "x", "--target", "virt/qemu", "--ssh-key", "/dev/null"), 5, "not a public key"),
        (("new", "x", "--target", "virt/qemu", "--password-stdin"), 2, "nothing came"),
        (("build",), 2, "which workspace?"),
        (("build", "nowhere"), 3, "no workspace there"),
        (("log", "nowhere", "base"), 3, "no workspace there"),
    ],
)
def test_what_cannot_be_is_told_and_leaves_nothing(
    tmp_path: Path, words: tuple[str, ...], status: int, said: str
) -> None:
    done = wherry(tmp_path, "host", *words, check=False)
    assert (done.returncode, said in done.stderr) == (status, True), done.stderr
    assert not (tmp_path / "x").exists()


def test_what_is_configured_is_remembered_and_what_does_not_load_is_taken_back(tmp_path: Path, layers: Path) -> None:
    wherry(tmp_path, "host", "new", "one", "--target", "virt/qemu", "--user", "")
    wherry(
        tmp_path,
        "host",
        "configure",
        "--target",
        "virt/qemu,site/kiosk",
        "--layers-path",
        str(layers),
        "--arch",
        "arm64",
    )
    before = (tmp_path / "one/host.yaml").read_text()
    done = wherry(tmp_path, "host", "configure")
    assert "site/kiosk" in done.stdout
    assert "arm64" in done.stdout
    failed = wherry(tmp_path, "host", "configure", "--target", "no/such", check=False)
    assert failed.returncode == 3
    assert (tmp_path / "one/host.yaml").read_text() == before


def test_commands_of_layers_run_with_the_environment_of_hooks(tmp_path: Path, layers: Path) -> None:
    wherry(tmp_path, "host", "new", "one", "--target", "virt/qemu", "--layers-path", str(layers), "--user", "")
    done = wherry(tmp_path, "host", "cmd", "site/kiosk", "say", "WORD=a 'word'")
    assert done.stdout == f"a 'word' site/kiosk {tmp_path}/one\n"
    assert wherry(tmp_path, "host", "cmd", "site/kiosk", "fail", check=False).returncode == 2  # make's own
    assert "say: Says a word" in wherry(tmp_path, "host", "cmd", "site/kiosk").stdout
    assert "site/kiosk say: Says a word" in wherry(tmp_path, "host", "cmd", "--list").stdout
    missing = wherry(tmp_path, "host", "cmd", "virt/qemu", "say", check=False)
    assert (missing.returncode, "no commands" in missing.stderr) == (3, True)


def test_clean_asks_and_keeps_what_a_person_wrote(tmp_path: Path) -> None:
    wherry(tmp_path, "host", "new", "one", "--target", "virt/qemu", "--user", "")
    (tmp_path / "one/output").mkdir()
    (tmp_path / "one/.wherry").mkdir()
    refused = wherry(tmp_path, "host", "clean", given="n\n", check=False)
    assert refused.returncode == 130 or refused.returncode == 1
    assert (tmp_path / "one/output").is_dir()
    wherry(tmp_path, "host", "clean", "-f")
    assert not (tmp_path / "one/output").exists()
    assert not (tmp_path / "one/.wherry").exists()
    assert (tmp_path / "one/host.yaml").exists()
