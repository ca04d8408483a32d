"""The quick reader of flags: click is the oracle, wherever the quick one has an answer."""

from __future__ import annotations

from typing import Any

import click
from hypothesis import given
from hypothesis import strategies as st

from wherry.cli.container_flags import RUN_FLAGS
from wherry.cli.container_run import with_flags
from wherry.cli.quick_flags import parse


def by_click(words: list[str]) -> tuple[dict[str, Any], list[str]] | None:
    found: dict[str, Any] = {}

    @click.command(context_settings={"allow_interspersed_args": False})
    @click.argument("rest", nargs=-1, type=click.UNPROCESSED)
    def command(**values: Any) -> None:
        found.update(values)

    try:
        made: click.Command = with_flags(RUN_FLAGS)(command)  # type: ignore[assignment]
        made.main(list(words), standalone_mode=False)
    except click.ClickException:
        return None
    return {key: value for key, value in found.items() if key != "rest"}, list(found.get("rest", ()))


WORDS = """
-i -t -it -ti --rm --name --name=x --name= -e -eA=b -ite -m -m64m --env-file --env --env=A -- - busybox true --no-such
-y -iy --rm=true A=b --nam
"""
words = st.sampled_from([*WORDS.split(), ""])


@given(st.lists(words, max_size=7))
def test_the_same_values_as_click_s(line: list[str]) -> None:
    quick = parse(RUN_FLAGS, line)
    if quick is not None:
        assert quick == by_click(line)


def test_the_usual_lines_are_read() -> None:
    found = parse(RUN_FLAGS, ["--rm", "-it", "-e", "A=b", "-eC", "--name=n", "busybox", "sh", "-c", "exit 3"])
    assert found is not None
    values, rest = found
    assert rest == ["busybox", "sh", "-c", "exit 3"]
    expected = {"interactive": True, "tty": True, "rm": True, "name": "n", "env": ("A=b", "C")}
    assert values == {**{flag.key: flag.default for flag in RUN_FLAGS}, **expected}


def test_what_is_doubtful_is_left_to_click() -> None:
    for line in (["--help"], ["--no-such"], ["--name"], ["-m"], ["-iy"], ["--rm=true"]):
        assert parse(RUN_FLAGS, line) is None
