"""The lock file: bytes and values, bad lines, and whether it fits."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wherry.build.debian.lock import (
    Lock,
    LockChanges,
    Package,
    Role,
    changes,
    check_fits,
    parse,
    read,
    serialize,
)
from wherry.core.errors import Conflict, InvalidInput, NotFound

HEAD = "format 1\nsuite bookworm\narchitecture amd64\nvariant essential\ncomponents main\nrecommends no\n"
SHA = "ab" * 32
ADDUSER = Package(
    role=Role.ROOT,
    name="adduser",
    version="3.134",
    architecture="all",
    size=115760,
    sha256=SHA,
    path="pool/main/a/adduser/adduser_3.134_all.deb",
)
LINE = f"root adduser 3.134 all 115760 {SHA} pool/main/a/adduser/adduser_3.134_all.deb\n"

_names = st.from_regex(r"[a-z0-9][a-z0-9+.-]{1,20}", fullmatch=True)
_packages = st.builds(
    Package,
    role=st.sampled_from(Role),
    name=_names,
    version=st.from_regex(r"([1-9]:)?[0-9][0-9A-Za-z.+~-]{0,20}", fullmatch=True),
    architecture=st.sampled_from(["all", "amd64", "arm64"]),
    size=st.integers(1, 2**32),
    sha256=st.binary(min_size=32, max_size=32).map(bytes.hex),
    path=st.from_regex(r"pool/[a-z]{1,8}/[a-z][a-z0-9+.~_-]{0,20}\.deb", fullmatch=True),
)
_locks = st.builds(
    Lock,
    suite=_names,
    architecture=st.sampled_from(["amd64", "arm64", "armhf"]),
    variant=st.sampled_from(["essential", "extract"]),
    components=st.lists(_names, min_size=1, max_size=3, unique=True).map(tuple),
    recommends=st.booleans(),
    wants=st.frozensets(st.tuples(st.sampled_from(Role), _names), max_size=8),
    packages=st.lists(_packages, max_size=12, unique_by=lambda one: (one.role, one.name, one.architecture)).map(
        lambda found: tuple(sorted(found))
    ),
)


def lock(*packages: Package, wants: frozenset[tuple[Role, str]] = frozenset()) -> Lock:
    return Lock(suite="bookworm", architecture="amd64", variant="essential", packages=packages, wants=wants)


@given(_locks)
def test_round_trip(found: Lock) -> None:
    data = serialize(found)
    assert parse(data) == found
    assert serialize(parse(data)) == data


def test_one_line_a_package_in_the_order_of_bytes() -> None:
    boot = Package(
        role=Role.BOOT, name="zlib", version="1:2", architecture="amd64", size=1, sha256=SHA, path="pool/z.deb"
    )
    text = serialize(lock(ADDUSER, boot, wants=frozenset({(Role.ROOT, "adduser")}))).decode()
    assert text.startswith("# ")
    assert text.partition("\n")[2] == HEAD + f"wants root adduser\nboot zlib 1:2 amd64 1 {SHA} pool/z.deb\n" + LINE
    assert boot.file_name == "zlib_1%3a2_amd64.deb"


def test_comments_and_the_order_of_lines_do_not_matter() -> None:
    assert parse(f"{LINE}\n# of last week\n{HEAD}".encode()).packages == (ADDUSER,)


@pytest.mark.parametrize(
    ("text", "said", "where"),
    [
        ("", "no line 'format'", "x.lock"),
        (HEAD.replace("suite bookworm\n", ""), "no line 'suite'", "x.lock"),
        (HEAD.replace("format 1", "format 2"), "format '2', and this version knows 1", "x.lock:1"),
        (HEAD + "suite trixie\n", "'suite' is there twice", "x.lock:7"),
        (HEAD + "suite\n", "'suite' is there twice", "x.lock:7"),
        (HEAD + "root adduser 3.134\n", "not a line of a lock", "x.lock:7"),
        (HEAD + LINE.replace("root ", "else "), "not a line of a lock", "x.lock:7"),
        (HEAD + LINE.replace("115760", "0"), "not a package's size: '0'", "x.lock:7"),
        (HEAD + LINE.replace("115760", "-1"), "not a package's size: '-1'", "x.lock:7"),
        (HEAD + LINE.replace("115760", "9" * 30), "not a package's size", "x.lock:7"),
        (HEAD + LINE.replace("115760", "١"), "not a package's size", "x.lock:7"),
        (HEAD + LINE.replace(SHA, SHA[:-1]), "not a SHA-256 checksum", "x.lock:7"),
        (HEAD + LINE.replace(SHA, SHA.upper()), "not a SHA-256 checksum", "x.lock:7"),
        (HEAD + LINE.replace("3.134 ", "3;134 "), "not a version", "x.lock:7"),
        (HEAD + LINE.replace("root adduser", "root ../adduser"), "not a package's name", "x.lock:7"),
        (HEAD + LINE.replace("pool/main", "/pool/main"), "not a path below a mirror", "x.lock:7"),
        (HEAD + LINE.replace("pool/main", "pool/.."), "not a path below a mirror", "x.lock:7"),
        (HEAD + LINE.replace("pool/main", "http://x/main"), "not a path below a mirror", "x.lock:7"),
        (HEAD + LINE.replace(".deb", ".exe"), "not a path below a mirror", "x.lock:7"),
        (HEAD + LINE + LINE.replace("3.134 ", "3.135 "), "adduser is there twice", "x.lock:8"),
        (HEAD + "wants kernel linux\n", "not a line of what is wanted", "x.lock:7"),
        (HEAD + "wants root Linux\n", "not a line of what is wanted", "x.lock:7"),
        (HEAD + "<<<<<<< HEAD\n", "a conflict of git's", "x.lock:7"),
        (HEAD + LINE + "=======\n", "a conflict of git's", "x.lock:8"),
    ],
)
def test_bad_lines_are_told_with_their_place(text: str, said: str, where: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        parse(text.encode(), where="x.lock")
    assert said in caught.value.what
    assert caught.value.where == where


def test_no_text() -> None:
    with pytest.raises(InvalidInput, match="UTF-8"):
        parse(HEAD.encode() + b"\xff\n")


@given(st.binary(max_size=400))
def test_any_bytes_are_a_lock_or_an_error(data: bytes) -> None:
    try:
        parse(HEAD.encode() + data)
    except InvalidInput:
        pass


def test_no_lock(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="wherry host lock"):
        read(tmp_path / "debian.lock")


def test_what_changed() -> None:
    newer = Package(
        role=Role.ROOT, name="adduser", version="4", architecture="all", size=1, sha256=SHA, path="pool/a.deb"
    )
    other = Package(role=Role.BOOT, name="linux", version="1", architecture="amd64", size=1, sha256=SHA, path="l.deb")
    path = Path("debian.lock")
    assert not changes(path, lock(ADDUSER), lock(ADDUSER))
    assert changes(path, None, lock()).new
    assert changes(path, lock(ADDUSER), lock(newer, other)) == LockChanges(
        path=path, new=False, added=(other,), changed=((ADDUSER, newer),)
    )
    assert changes(path, lock(ADDUSER, other), lock(other)).removed == (ADDUSER,)


def test_a_lock_that_fits_and_one_that_does_not() -> None:
    wants = frozenset({(Role.ROOT, "adduser"), (Role.ROOT, "vim")})
    check_fits(lock(wants=wants), lock(wants=wants), where="debian.lock")
    asked = Lock(
        suite="trixie",
        architecture="amd64",
        variant="essential",
        recommends=True,
        wants=frozenset({(Role.ROOT, "adduser"), (Role.ROOT, "nano")}),
    )
    with pytest.raises(Conflict) as caught:
        check_fits(lock(wants=wants), asked, where="debian.lock")
    assert caught.value.what == (
        "the lock is of another list of packages: suite bookworm there, trixie asked for; "
        "recommends no there, yes asked for; new: nano; no longer wanted: vim"
    )
    assert caught.value.hint == "run `wherry host lock`"
