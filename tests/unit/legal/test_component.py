"""Facts are kept, read again and joined without one of them being lost."""

from __future__ import annotations

from pathlib import Path

import pytest

from wherry.build.legal.component import Component, Facts, Part, join, read_facts, write_facts
from wherry.core.errors import InvalidInput, NotFound, Unsupported
from wherry.image.sbom.model import Basis

LINUX = Component(
    kind="source",
    name="linux",
    version="6.1",
    licence="GPL-2.0-only",
    basis=Basis.DECLARED,
    parts=(Part(licence="MIT", count=3),),
    texts=("linux/COPYING",),
)


def test_a_round_trip(tmp_path: Path) -> None:
    facts = Facts(components=(LINUX,), texts={"linux/COPYING": b"free\n"}, warnings=("x: y",))
    write_facts(tmp_path / "legal", facts)
    assert read_facts(tmp_path / "legal") == facts
    assert read_facts(tmp_path / "none") == Facts()


@pytest.mark.parametrize("name", ["../x", "/etc/x", "", "a\0b"])
def test_names_stay_in_the_folder(tmp_path: Path, name: str) -> None:
    with pytest.raises(InvalidInput, match="not a name for a text"):
        write_facts(tmp_path / "legal", Facts(components=(LINUX,), texts={name: b""}))


def test_bad_facts(tmp_path: Path) -> None:
    write_facts(tmp_path, Facts(components=(LINUX,), texts={"linux/COPYING": b"free\n"}))
    index = tmp_path / "components.json"
    good = index.read_text()
    index.write_text(good.replace("linux/COPYING", "../../etc/passwd"))
    with pytest.raises(InvalidInput, match="not a name for a text"):
        read_facts(tmp_path)
    index.write_text(good.replace('"format": 1', '"format": 2'))
    with pytest.raises(Unsupported):
        read_facts(tmp_path)
    index.write_text(good.replace('"version"', '"verzion"'))
    with pytest.raises(InvalidInput, match="verzion"):
        read_facts(tmp_path)
    index.write_text(good)
    (tmp_path / "texts/linux/COPYING").unlink()
    with pytest.raises(NotFound):
        read_facts(tmp_path)


def test_join_keeps_two_texts_of_one_name() -> None:
    other = Component(kind="source", name="busybox", version="1", texts=("linux/COPYING",))
    found = join(
        [
            Facts(components=(LINUX,), texts={"linux/COPYING": b"one"}, warnings=("a",)),
            Facts(components=(other, LINUX), texts={"linux/COPYING": b"two"}, warnings=("a", "b")),
        ]
    )
    assert [item.name for item in found.components] == ["busybox", "linux"]
    assert {item.name: found.texts[item.texts[0]] for item in found.components} == {"busybox": b"two", "linux": b"one"}
    assert found.warnings == ("a", "b")
