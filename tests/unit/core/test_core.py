"""Errors, digests, JSON, locks, subprocesses and trace points."""

from __future__ import annotations

from pathlib import Path

import pytest

from wherry.core import jsonio, trace
from wherry.core.digest import checksum_of, digest_of, from_raw, parse_checksum, parse_digest, raw, short
from wherry.core.errors import Conflict, InvalidInput, Locked, Timeout, ToolError, Unsupported, WherryError, all_errors
from wherry.core.lock import file_lock
from wherry.core.proc import run

HEX = "0123456789abcdef" * 4


def test_message_says_what_where_and_what_to_do() -> None:
    assert str(WherryError("it broke", where="/x", hint="mend it")) == "it broke: /x; mend it"
    assert str(WherryError("it broke")) == "it broke"


def test_every_error_is_drawn_and_has_its_code() -> None:
    import wherry.core.errors as module

    drawn = (module.__doc__ or "").split("::")[1].split("``wherry")[0]
    codes = {
        line.strip("│├└─ ").split()[0]: int(line.strip("│├└─ ").split()[1])
        for line in drawn.splitlines()
        if line.strip()
    }
    assert codes == {cls.__name__: cls.exit_code for cls in all_errors()}
    assert codes["Locked"] == codes["Conflict"]
    assert codes["HttpError"] == codes["NetworkError"]
    assert len(set(codes.values())) == len(codes) - 2, "no other two share a code"


def test_digest_round_trips() -> None:
    checksum = parse_checksum(HEX)
    assert from_raw(raw(checksum)) == checksum
    assert checksum_of(parse_digest(digest_of(checksum))) == checksum
    assert short("sha256:" + HEX) == HEX[:12]


@pytest.mark.parametrize("text", ["", "abc", HEX.upper(), HEX + "0", HEX[:-1] + "g", HEX + "\n"])
def test_bad_checksums(text: str) -> None:
    with pytest.raises(InvalidInput, match="64 hex digits"):
        parse_checksum(text)
    with pytest.raises(InvalidInput, match="sha256 digest"):
        parse_digest("sha256:" + text)


@pytest.mark.parametrize(
    ("document", "message"),
    [
        (b'{"a":1,"a":2}', "twice"),
        (b'{"a":NaN}', "NaN"),
        (b"{", "not JSON"),
        (b"\xff", "not JSON"),
        (b"[" * 100_000, "not JSON"),
    ],
)
def test_bad_json(document: bytes, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        jsonio.loads(document, where="x.json")


def test_json_limit() -> None:
    with pytest.raises(InvalidInput, match="longer than"):
        jsonio.loads(b'"aaaaaaaaaa"', max_bytes=5)


def test_canonical_json_is_sorted_and_refuses_floats() -> None:
    assert jsonio.canonical({"b": [1, "ü"], "a": None}) == '{"a":null,"b":[1,"ü"]}'.encode()
    with pytest.raises(InvalidInput, match="floating"):
        jsonio.canonical({"a": [1.5]})


def test_lock_excludes_and_says_so(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with (
        file_lock(path),
        pytest.raises(Locked, match="the store is in use"),
        file_lock(path, timeout_s=0, what="the store"),
    ):
        pass
    with file_lock(path, shared=True), file_lock(path, shared=True, timeout_s=0):
        pass
    assert issubclass(Locked, Conflict)


def test_run_tells_what_failed() -> None:
    assert run(["cat"], stdin=b"x").stdout == b"x"
    with pytest.raises(ToolError, match=r"exit status 3: no \| good: sh -c"):
        run(["sh", "-c", "echo no >&2; echo good >&2; exit 3"])
    with pytest.raises(Unsupported, match="not found: no-such-program"):
        run(["no-such-program"])
    with pytest.raises(Timeout, match=r"no end after 0\.05 s: sleep 5"):
        run(["sleep", "5"], timeout_s=0.05)


def test_trace_points() -> None:
    reached: list[str] = []
    trace.observe(reached.append)
    trace.arm("two", lambda: reached.append("armed"))
    try:
        trace.reach("one")
        trace.reach("two")
    finally:
        trace.observe(None)
        trace.disarm()
    trace.reach("two")
    assert reached == ["one", "two", "armed"]
