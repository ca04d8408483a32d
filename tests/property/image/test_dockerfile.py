"""Whatever the bytes are, reading, expanding and planning a Dockerfile gives a value or an error for people."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from wherry.core.errors import WherryError
from wherry.image.dockerfile.effects import apply_to_document, created_by
from wherry.image.dockerfile.expansion import GlobalArgs, Scope
from wherry.image.dockerfile.ignore import parse_ignore
from wherry.image.dockerfile.modes import parse_chmod
from wherry.image.dockerfile.parsing import parse_dockerfile, parse_instruction
from wherry.image.dockerfile.plan import plan_build
from wherry.image.dockerfile.problems import Place
from wherry.image.dockerfile.sources import classify
from wherry.image.dockerfile.syntax import KEYWORDS
from wherry.image.dockerfile.variables import Expander
from wherry.image.platforms import Platform

PLACE = Place(where="x", line=1)
SEEDS = [path.read_bytes() for path in sorted((Path(__file__).parents[2] / "data/dockerfiles").glob("*.Dockerfile"))]
PIECES = [
    *KEYWORDS.values(), "AS", "NONE", "scratch", "a", "b/", "$A", "${A:-b}", "${A", "'", '"', "\\", "\\\n", "\n", " ",
    "--from=0", "--from=a", "--chown=", "--mount=type=cache,target=/a", "--", "<<E", "<<-'E'", "E\n", "[", '["a"]', "]",
    "A=b", "=", "\t", ",", "#", "# escape=`\n", "`", "80", "/udp", "1s", "--interval=", "\0", "\r\n", "é", "\ud800",
]  # fmt: skip
words = st.lists(st.sampled_from(PIECES), max_size=60).map(
    lambda pieces: "FROM a\n" + " ".join(pieces).replace("\n ", "\n")
)


def build_on_paper(data: bytes) -> None:
    file = parse_dockerfile(data)
    platform = Platform(architecture="amd64")
    known = GlobalArgs.of(file, {"A": "x"}, target=platform, build=platform)
    for stage in plan_build(file, known).stages:
        scope = Scope(globals=known)
        document: dict[str, Any] = {}
        for node in stage.instructions:
            expanded = scope.expand(node)
            apply_to_document(document, expanded)
            assert created_by(expanded)
            assert 0 < node.first_line <= node.last_line <= data.count(b"\n") + 1


@given(st.binary(max_size=400))
def test_any_bytes(data: bytes) -> None:
    with contextlib.suppress(WherryError):
        build_on_paper(data)


@settings(max_examples=300)
@given(words)
def test_any_words(text: str) -> None:
    with contextlib.suppress(WherryError):
        build_on_paper(text.encode("utf-8", "surrogatepass"))


@given(st.sampled_from(SEEDS), st.integers(0, 600), st.integers(0, 20), st.binary(max_size=10))
def test_changed_files(seed: bytes, at: int, length: int, new: bytes) -> None:
    with contextlib.suppress(WherryError):
        build_on_paper(seed[:at] + new + seed[at + length :])


@given(st.text(max_size=100))
@example("RUN \ud800")
@example("# escape=`")
def test_any_instruction(text: str) -> None:
    with contextlib.suppress(WherryError):
        parse_instruction(text, where="x")


@given(st.text(alphabet="${}ab:-+?#%/*\\'\" `", max_size=60))
def test_any_word(text: str) -> None:
    for read in (Expander.word, Expander.words, Expander.body):
        with contextlib.suppress(WherryError):
            read(Expander(lookup={"a": "b c", "b": "*"}.get, place=PLACE), text)


@given(st.text(max_size=40))
def test_any_mode_and_source(text: str) -> None:
    with contextlib.suppress(WherryError):
        assert 0 <= parse_chmod(text, PLACE).apply(0o644, directory=False) <= 0o7777
    with contextlib.suppress(WherryError):
        classify(text, PLACE)


names = st.text(alphabet="ab.", min_size=1, max_size=2).filter(lambda name: name not in (".", ".."))
patterns = st.lists(
    st.lists(st.sampled_from(["a", "b", "*", "**", "?", "a*", "**b", "[ab]"]), min_size=1, max_size=3).map("/".join)
    | st.text(alphabet="ab*?![]/\\. ", max_size=6),
    max_size=4,
)


@settings(max_examples=300)
@given(patterns, st.lists(st.booleans(), min_size=4, max_size=4), st.lists(names, min_size=1, max_size=4))
def test_nothing_below_what_is_pruned_is_kept(lines: list[str], taken: list[bool], parts: list[str]) -> None:
    text = "\n".join(("!" if back else "") + line for line, back in zip(lines, taken, strict=False))
    try:
        ignore = parse_ignore(text.encode())
    except WherryError:
        return
    for count in range(1, len(parts)):
        if ignore.prunes("/".join(parts[:count])):
            assert ignore.excludes("/".join(parts))
