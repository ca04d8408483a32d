"""Key files keep what they do not know."""

from __future__ import annotations

from pathlib import Path

import pytest

from wherry.core.errors import InvalidInput
from wherry.store.config import Config

TEXT = """# a comment
[core]
repo_version=1
mode=archive-z2

[remote "origin"]
url=http://example.com/
gpg-verify=false
"""


def test_round_trip(tmp_path: Path) -> None:
    config = Config(TEXT)
    config.save(tmp_path / "config")
    assert (tmp_path / "config").read_text() == TEXT
    config.set("core", "mode", "bare")
    config.set("core", "fsync", "false")
    config.set("new", "key", "value")
    config.save(tmp_path / "config")
    again = Config.load(tmp_path / "config")
    assert again.sections() == ["core", 'remote "origin"', "new"]
    assert again.keys("core") == ["repo_version", "mode", "fsync"]
    assert again.get("core", "mode") == "bare"
    assert "# a comment" in (tmp_path / "config").read_text()
    again.unset("core", "fsync")
    again.remove_section('remote "origin"')
    assert again.get("core", "fsync") == ""
    assert again.sections() == ["core", "new"]


def test_values() -> None:
    config = Config("[core]\nyes=true\nodd=maybe\nnumber=x\nsize=5GB\nbad=5\n")
    assert config.get_bool("core", "yes", False)
    assert config.get_bool("core", "none", True)
    assert config.get_size("core", "size") == 5 << 30
    assert config.get_size("core", "none") is None
    with pytest.raises(InvalidInput, match=r"core\.odd"):
        config.get_bool("core", "odd", False)
    with pytest.raises(InvalidInput, match=r"core\.number"):
        config.get_int("core", "number", 0)
    with pytest.raises(InvalidInput, match=r"core\.bad"):
        config.get_size("core", "bad")


@pytest.mark.parametrize("text", ["key=value\n", "[core]\nno equals\n", "[core\nx=y\n"])
def test_no_key_file(text: str) -> None:
    with pytest.raises(InvalidInput):
        Config(text, where="config")


def test_strings_that_are_escaped() -> None:
    config = Config("[a]\nb=\\sx\\ty\\\\\nbad=\\q\n")
    assert config.get_string("a", "b") == " x\ty\\"
    with pytest.raises(InvalidInput, match="escape"):
        config.get_string("a", "bad")
    for value in ("", " ", "  a b  ", "\n\t\r\\", "ü=#;[x]"):
        config.set_string("a", "b", value)
        assert config.get_string("a", "b") == value
    for section, key in (("a]", "b"), ("a", "b=c"), ("a", ""), ("a", "b\nc"), ("", "b"), ("a", " b")):
        with pytest.raises(InvalidInput):
            config.set_string(section, key, "x")


def test_a_key_that_is_there_twice() -> None:
    config = Config("[a]\nb=1\nc=2\nb=3\n")
    assert config.get("a", "b") == "3"
    config.set("a", "b", "4")
    assert config.get("a", "b") == "4"
    assert config.keys("a") == ["c", "b"]
