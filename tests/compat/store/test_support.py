"""The documented table of options is what the commands take, and misses nothing that the real ``ostree`` shows."""

from __future__ import annotations

import re
import subprocess

import pytest
from tests.compat.store.support import ABSENT, PAGE, page_with_table, supported, upstream

_OPTION = re.compile(r"(?:(-\w), )?(--[a-z0-9-]+)")


def test_every_option_of_ostree_is_there_or_refused() -> None:
    missing = {row.command: row.missing for row in supported() if row.missing and row.command not in ABSENT}
    assert missing == {}


def test_the_page_tells_it() -> None:
    assert PAGE.read_text() == page_with_table(), "run: python tests/compat/store/support.py"


@pytest.mark.parametrize("command", sorted(upstream()))
def test_the_list_has_all_that_the_installed_ostree_shows(command: str) -> None:
    shown = subprocess.run(["ostree", *command.split(), "--help"], capture_output=True, text=True, check=True).stdout
    options = {match[2]: match[1] for match in _OPTION.finditer(shown.partition("Application Options:")[2])}
    known = {word for option in upstream()[command] for word in option.split(", ")}
    for option, short in options.items():
        if option not in ("--repo", "--verbose", "--version", "--help", "--sysroot"):
            assert option in known
            assert not short or short in known, option
