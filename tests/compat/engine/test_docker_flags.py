"""The table of docker's flags, beside the list of a real client."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from wherry.cli.container_flags import FLAGS, REFUSED

PAGE = Path(__file__).parents[3] / "docs/reference/docker-flags.md"


def _table() -> dict[str, str]:
    rows = re.findall(r"^\| `(--[a-z0-9-]+)` \| (done|refused) \|", PAGE.read_text(), re.MULTILINE)
    return dict(rows)


def test_every_flag_of_a_real_client_is_in_the_table() -> None:
    client = shutil.which("docker") or shutil.which("podman")
    if client is None:
        pytest.fail("neither docker nor podman is there: `make apt-test` installs podman")
    text = subprocess.run([client, "run", "--help"], capture_output=True, text=True, check=True).stdout
    real = set(re.findall(r"^\s+(?:-\w, )?(--[a-z0-9-]+)", text, re.MULTILINE))
    assert len(real) > 80
    if client.endswith("docker"):
        assert real <= _table().keys()
    else:
        assert len(real & _table().keys()) > 80  # podman has most of docker's, and many of its own


def test_the_table_says_what_is_so() -> None:
    own = {name for flag in FLAGS for name in flag.names}
    for flag, state in _table().items():
        if state == "done":
            assert flag in own or flag in ("--detach", "--help")
        elif state == "refused":
            assert flag in REFUSED
