"""Directives, comments, continuations and heredocs, as docker reads them."""

from __future__ import annotations

import pytest

from wherry.core.errors import InvalidInput
from wherry.image.dockerfile.parsing import parse_dockerfile
from wherry.image.dockerfile.syntax import Copy, Directives, Heredoc, Instruction, Onbuild, Run, ShellForm


def body(text: str | bytes) -> tuple[Instruction, ...]:
    data = text if isinstance(text, bytes) else text.encode()
    return parse_dockerfile(data).stages[0].instructions


def run(text: str) -> Run:
    (node,) = body(text)
    assert isinstance(node, Run)
    return node


@pytest.mark.parametrize(
    ("text", "command"),
    [
        ("FROM a\nRUN x y", "x y"),
        ("FROM a\nrun x", "x"),
        ("  FROM a\n\t RUN  x  ", "x"),
        ("FROM a\r\nRUN x \\\r\n  y\r\n", "x   y"),
        ("\ufeffFROM a\nRUN x", "x"),
        ("FROM a\nRUN a \\\n# comment\n  # comment\n b", "a  b"),
        ("FROM a\nRUN a \\\n\n\n b", "a  b"),
        ("FROM a\nRUN a \\  \n b", "a  b"),
        ("FROM a\nRUN a \\\\\n", "a \\\\"),
        ("FROM a\nRUN a \\", "a"),
        ("FROM a\nRUN \\\na", "a"),
        ("FROM a\n\\\nRUN a", "a"),
        ("FROM a\nRUN a # no comment", "a # no comment"),
        ("FROM a\nRU\\\nN a", "a"),
        ("# escape=`\nFROM a\nRUN a `\nb \\", "a b \\"),
        ("#ESCAPE = `\nFROM a\nRUN a ``", "a ``"),
        ("# escape=\\\nFROM a\nRUN a \\\nb", "a b"),
        ("# syntax=docker/dockerfile:1\n# escape=`\nFROM a\nRUN a `\nb", "a b"),
        ("# a comment\n# escape=`\nFROM a\nRUN a \\\nb", "a b"),
        ("\n# escape=`\nFROM a\nRUN a \\\nb", "a b"),
        ("# other=1\n# escape=`\nFROM a\nRUN a \\\nb", "a b"),
    ],
)
def test_one_command(text: str, command: str) -> None:
    assert run(text).command == ShellForm(text=command)


def test_directives() -> None:
    text = "# syntax = docker/dockerfile:1\n# check=skip=UndefinedVar,StageNameCasing;error=true\nFROM a\n"
    assert parse_dockerfile(text.encode()).directives == Directives(
        syntax="docker/dockerfile:1", skip_checks=frozenset({"UndefinedVar", "StageNameCasing"}), check_error=True
    )


def test_lines_are_counted() -> None:
    file = parse_dockerfile(b"# x\n\nFROM a\nRUN a \\\n# c\n b\nCOPY <<A <<B /x/\n1\nA\nB\nUSER u\n")
    nodes = [file.stages[0].base, *file.stages[0].instructions]
    assert [(node.first_line, node.last_line) for node in nodes] == [(3, 3), (4, 6), (7, 10), (11, 11)]


@pytest.mark.parametrize(
    ("text", "heredocs"),
    [
        ("RUN <<EOF\na\n\tb\nEOF\n", [Heredoc(name="EOF", lines="a\n\tb\n")]),
        ("RUN <<-EOF\n\ta\n\t\tb\n\tEOF\n", [Heredoc(name="EOF", lines="\ta\n\t\tb\n", strip_tabs=True)]),
        ('RUN <<"EOF"\n$a\nEOF\n', [Heredoc(name="EOF", lines="$a\n", expand=False)]),
        ("RUN <<'E F'\nE F\n", [Heredoc(name="E F", lines="", expand=False)]),
        ("RUN <<E\\F\nEF\n", [Heredoc(name="EF", lines="", expand=False)]),
        ("RUN 3<<EOF cat\nEOF\n", [Heredoc(name="EOF", lines="", fd=3)]),
        ("RUN <<A cat <<B\n1\nA\n2\nB\n", [Heredoc(name="A", lines="1\n"), Heredoc(name="B", lines="2\n")]),
        ("RUN <<EOF\r\na\r\nEOF\r\n", [Heredoc(name="EOF", lines="a\r\n")]),
        ("RUN <<EOF\n# not a comment\nFROM \\\nEOF", [Heredoc(name="EOF", lines="# not a comment\nFROM \\\n")]),
        ("RUN echo $((1 << 3))", []),
        ("RUN cat <<<word", []),
        ("RUN echo 'a <<EOF'", []),
        ("RUN cat<<EOF", []),
    ],
)
def test_heredocs(text: str, heredocs: list[Heredoc]) -> None:
    assert list(run("FROM a\n" + text).heredocs) == heredocs


def test_tabs_are_stripped_of_the_content() -> None:
    (heredoc,) = run("FROM a\nRUN <<-EOF\n\ta\n\t\tb\n c\nEOF").heredocs
    assert heredoc.content == "a\nb\n c\n"


def test_heredocs_of_copy_and_of_triggers() -> None:
    copy, trigger = body("FROM a\nCOPY a <<B c /d/\nx\nB\nONBUILD COPY <<E /e\ny\nE\n")
    assert isinstance(copy, Copy)
    assert copy.sources == ("a", Heredoc(name="B", lines="x\n"), "c")
    assert isinstance(trigger, Onbuild)
    assert trigger.expression == "COPY <<E /e\ny\nE"
    assert trigger.trigger == Copy(sources=(Heredoc(name="E", lines="y\n"),), destination="/e")


@pytest.mark.parametrize(
    ("data", "place", "word"),
    [
        (b"", "Dockerfile", "no instruction"),
        (b"# only\n\n", "Dockerfile", "no instruction"),
        (b"FROM a\n\xff\n", "Dockerfile:2", "UTF-8"),
        (b"FROM a\nRUN \0\n", "Dockerfile:2", "NUL"),
        (b"# escape=/\nFROM a", "Dockerfile:1", "escape character"),
        (b"# syntax=a\n# SYNTAX=b\nFROM a", "Dockerfile:2", "twice"),
        (b"# check=skip=UndefinedVars\nFROM a", "Dockerfile:1", "did you mean UndefinedVar?"),
        (b"# check=silent\nFROM a", "Dockerfile:1", "check"),
        (b"FROM a\n\nRUN <<EOF\nx\n", "Dockerfile:3", "'EOF' does not end"),
        (b"# check=error=true\nFROM a\nMAINTAINER me", "Dockerfile:3", "MaintainerDeprecated"),
    ],
)
def test_refused(data: bytes, place: str, word: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        parse_dockerfile(data)
    assert (caught.value.where or "").split(": ")[0] == place
    assert word in str(caught.value)


@pytest.mark.parametrize(
    ("data", "word"),
    [
        (b"FROM a\n" + b"#" * (16 << 20), "bytes"),
        (b"FROM a\n" + b"\n" * 200_001, "200000 lines"),
        (b"FROM a\nRUN " + b"a" * (1 << 20), "characters"),
        (b"FROM a\nRUN <<A\n" + b"a" * 9_000_000 + b"\nA\n", "heredoc longer"),
        (b"FROM a\n" + b"USER a\n" * 20_000, "20000 instructions"),
        (b"FROM a\n" * 1001, "1000 stages"),
        (b"FROM a\nRUN " + b"<<A " * 101, "100 heredocs"),
    ],
)
def test_limits(data: bytes, word: str) -> None:
    with pytest.raises(InvalidInput, match=word):
        parse_dockerfile(data)
