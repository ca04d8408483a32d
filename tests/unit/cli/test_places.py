"""The engine's folders of root and of others."""

from __future__ import annotations

from wherry.cli.places import default_root, default_run_root


def test_root_has_the_machines() -> None:
    assert default_root({"XDG_DATA_HOME": "/d", "HOME": "/h"}, 0) == "/var/lib/wherry"
    assert default_run_root({"XDG_RUNTIME_DIR": "/r"}, 0) == "/run/wherry"


def test_others_have_their_own() -> None:
    assert default_root({"HOME": "/home/ada"}, 1000) == "/home/ada/.local/share/wherry"
    assert default_root({"HOME": "/home/ada", "XDG_DATA_HOME": "/data"}, 1000) == "/data/wherry"
    assert default_run_root({"XDG_RUNTIME_DIR": "/run/user/1000"}, 1000) == "/run/user/1000/wherry"
    assert default_run_root({}, 1000) == "/tmp/wherry-1000"


def test_a_relative_path_is_ignored_as_the_standard_says() -> None:
    assert default_root({"HOME": "/home/ada", "XDG_DATA_HOME": "data"}, 1000) == "/home/ada/.local/share/wherry"
    assert default_run_root({"XDG_RUNTIME_DIR": "run"}, 1000) == "/tmp/wherry-1000"
