"""The lock of sources: what is written is read again, and what is malformed is refused by its line."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.unit.source_builder.support import SHA256, inputs, pinned, write, write_lock

from wherry.build.source import lock, locking
from wherry.build.source.lock import Lock, changes, parse, serialize
from wherry.build.source.options import options_of
from wherry.core.errors import Conflict, InvalidInput, NotFound

LOCK = Lock(
    suite="bookworm",
    files=(
        pinned("busybox", "busybox", "pool/main/b/busybox/busybox_1.35.0-4+deb12u1.dsc", version="1:1.35.0-4+deb12u1"),
        pinned("kernel", "linux-source-6.1", "pool/updates/main/l/linux/linux-source-6.1_6.1.192-3_all.deb"),
    ),
)


def test_what_is_written_is_read_again() -> None:
    assert parse(serialize(LOCK)) == LOCK


def test_the_bytes_do_not_depend_on_the_order() -> None:
    assert serialize(Lock(suite="bookworm", files=LOCK.files[::-1])) == serialize(LOCK)


GOOD = f"kernel linux 1 7 {SHA256} pool/l.deb"


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("", "not whole"),
        ("format 1\n", "not whole"),
        ("format 2\nsuite bookworm\n", "format '2' is not known"),
        ("suite bookworm\nformat 1\n", "must be the line `format"),
        (f"format 1\nsuite bookworm\n{GOOD} more\n", "for what, package"),
        (f"format 1\nsuite bookworm\n{GOOD.replace(' 7 ', ' -7 ')}\n", "no size"),
        (f"format 1\nsuite bookworm\n{GOOD.replace(' 7 ', ' 0 ')}\n", "no size"),
        (f"format 1\nsuite bookworm\n{GOOD.replace(' 7 ', ' 99999999999999 ')}\n", "no size"),
        (f"format 1\nsuite bookworm\n{GOOD.replace(SHA256, 'ab')}\n", "ab"),
        (f"format 1\nsuite bookworm\n{GOOD.replace('pool/', '../')}\n", "no path"),
        (f"format 1\nsuite bookworm\n{GOOD.replace('pool/', '/etc/')}\n", "no path"),
        (f"format 1\nsuite bookworm\n{GOOD}\n{GOOD}\n", "twice"),
        (f"format 1\nsuite bookworm\n{GOOD.replace('linux', '-linux')}\n", "for what, package"),
    ],
)
def test_a_malformed_lock_is_refused(text: str, what: str) -> None:
    with pytest.raises(InvalidInput, match=what):
        parse(text.encode(), where="source.lock")


def test_a_mistake_is_told_by_its_line() -> None:
    with pytest.raises(InvalidInput) as raised:
        parse(f"# why\nformat 1\nsuite bookworm\n\n{GOOD} x\n".encode(), where="source.lock")
    assert raised.value.where == "source.lock:5"


def test_what_is_no_text_or_too_long_is_refused() -> None:
    with pytest.raises(InvalidInput, match="not text"):
        parse(b"\xff")
    with pytest.raises(InvalidInput, match="more than"):
        parse(b"#" * (lock.MAX_LOCK_BYTES + 1))


def test_a_lock_fits_what_is_asked_for(tmp_path: Path) -> None:
    write(tmp_path / "layers", {"a/b/kernel/x": ""})
    write_lock(tmp_path)
    given = inputs(tmp_path)
    assert locking.has_lock(given)
    found = locking.fitting_lock(given, options_of(given))
    assert [file.role for file in found.files] == ["busybox", "busybox", "kernel"]
    for options, what in (
        ({"suite": "trixie"}, "made for bookworm, not for trixie"),
        ({"kernel": {"package": "linux-source-6.12"}}, "it has linux-source-6.1 for kernel"),
        ({"libcap": True}, "it has nothing for libcap, not libcap2"),
    ):
        other = inputs(tmp_path, options=options)
        with pytest.raises(Conflict, match=what):
            locking.fitting_lock(other, options_of(other))


def test_no_lock_is_told_with_what_makes_one(tmp_path: Path) -> None:
    write(tmp_path / "layers", {"a/b/kernel/x": ""})
    given = inputs(tmp_path)
    assert not locking.has_lock(given)
    with pytest.raises(NotFound, match="host lock"):
        locking.fitting_lock(given, options_of(given))


def test_files_need_no_lock(tmp_path: Path) -> None:
    write(tmp_path / "layers", {"a/b/kernel/x": ""})
    origin = {"url": "file:/srv/x.tar.xz", "sha256": SHA256}
    given = inputs(tmp_path, options={"kernel": origin, "busybox": origin})
    assert locking.has_lock(given)
    assert locking.fitting_lock(given, options_of(given)).files == ()


def test_changes_are_told_by_package() -> None:
    files = (pinned("kernel", "linux-source-6.1", version="2"), pinned("libcap", "libcap2"))
    found = changes(Path("source.lock"), LOCK, Lock(suite="bookworm", files=files))
    assert found
    assert (found.added, found.removed, found.changed) == (
        ("libcap2 1",),
        ("busybox 1:1.35.0-4+deb12u1",),
        (("linux-source-6.1 1", "linux-source-6.1 2"),),
    )
    assert not changes(Path("source.lock"), LOCK, LOCK)
    assert changes(Path("source.lock"), None, LOCK).new
