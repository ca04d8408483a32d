"""Where packages come from: the machine's apt sources, and those that a workspace names."""

from __future__ import annotations

from pathlib import Path

import pytest

from wherry.build.debian.options import Options
from wherry.build.debian.sources import Source, machine_sources, paragraphs, sources_for
from wherry.core.errors import InvalidInput, NotFound

DEB822 = """# the usual
Types: deb
URIs: http://mirror.invalid/debian
Suites: bookworm bookworm-updates bookworm-backports
Components: main
Signed-By: /usr/share/keyrings/a.gpg

Types: deb-src
URIs: http://mirror.invalid/debian
Suites: bookworm
Components: main

Types: deb
Enabled: no
URIs: http://off.invalid/debian
Suites: bookworm
Components: main
"""
LIST = """
# deb http://comment.invalid/ bookworm main
deb [signed-by=/k.gpg arch=amd64] http://mirror.invalid/security bookworm-security main contrib # and more
deb http://others.invalid/apt stable main
deb-src http://mirror.invalid/debian bookworm main
this is no line
"""


@pytest.fixture
def apt(tmp_path: Path) -> Path:
    (tmp_path / "sources.list.d").mkdir()
    (tmp_path / "sources.list.d/debian.sources").write_text(DEB822)
    (tmp_path / "sources.list.d/old.sources.save").write_text(DEB822)
    (tmp_path / "sources.list").write_text(LIST)
    (tmp_path / "os-release").write_text('ID=debian\nVERSION_CODENAME="bookworm"\n')
    return tmp_path


def test_those_of_the_suite_and_of_nobody_else(apt: Path) -> None:
    found = sources_for(Options(components=("main", "non-free-firmware")), apt=apt, os_release=apt / "os-release")
    components = ("main", "non-free-firmware")
    assert found == [
        Source(
            uris=("http://mirror.invalid/security",),
            suites=("bookworm-security",),
            components=components,
            fields=(("Signed-By", "/k.gpg"),),
        ),
        Source(
            uris=("http://mirror.invalid/debian",),
            suites=("bookworm", "bookworm-updates"),
            components=components,
            fields=(("Signed-By", "/usr/share/keyrings/a.gpg"),),
        ),
    ]
    assert found[0].stanza() == (
        "Types: deb\nURIs: http://mirror.invalid/security\nSuites: bookworm-security\n"
        "Components: main non-free-firmware\nSigned-By: /k.gpg\n"
    )


def test_another_release_is_on_the_same_mirrors(apt: Path) -> None:
    found = sources_for(Options(suite="trixie"), apt=apt, os_release=apt / "os-release")
    assert [source.suites for source in found] == [("trixie-security",), ("trixie", "trixie-updates")]


def test_a_machine_that_has_no_such_suite(apt: Path) -> None:
    with pytest.raises(NotFound, match=r"no source for 'trixie'.*mirrors"):
        sources_for(Options(suite="trixie"), apt=apt, os_release=apt / "none")


def test_named_ones_are_the_only_ones(apt: Path) -> None:
    options = Options(mirrors=("file:/srv/mirror", "deb [trusted=yes] http://127.0.0.1:8000/ ./"))
    assert sources_for(options, apt=apt) == [
        Source(uris=("file:/srv/mirror",), suites=("bookworm",), components=("main",)),
        Source(uris=("http://127.0.0.1:8000/",), suites=("./",), fields=(("Trusted", "yes"),)),
    ]


@pytest.mark.parametrize("text", ["mirror", "deb http://x.invalid", "http://x.invalid bookworm", "deb "])
def test_bad_mirrors(text: str) -> None:
    with pytest.raises(InvalidInput, match="mirrors: "):
        sources_for(Options(mirrors=(text,)))


def test_lines_that_are_none_are_passed_over(apt: Path) -> None:
    assert len(list(machine_sources(apt))) == 3


def test_paragraphs() -> None:
    text = "A: 1\nb:2\n more\n\n\n# no\nC : x: y\nnonsense\n continued\n"
    assert list(paragraphs(text)) == [{"a": "1", "b": "2\n more"}, {"c": "x: y"}]
