"""Variables, quotes and escapes, as docker has them; the pattern forms are compared with bash."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from wherry.core.errors import InvalidInput
from wherry.image.dockerfile.problems import Place
from wherry.image.dockerfile.variables import Expander

VALUES = {"a": "b", "empty": "", "path": "/usr/lib/x.tar.gz", "spaced": "c  d", "rep": "foobarbaz", "A_1": "z"}
PLACE = Place(where="Dockerfile", line=7, text="ENV")


def expander(escape: str = "\\") -> Expander:
    return Expander(lookup=VALUES.get, place=PLACE, escape=escape)


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("", ""),
        ("plain", "plain"),
        ("$a", "b"),
        ("${a}", "b"),
        ("$ab", ""),
        ("${a}b", "bb"),
        ("$A_1-x", "z-x"),
        ("x$a$a", "xbb"),
        ("$", "$"),
        ("a$", "a$"),
        ("$/x", "$/x"),
        ("$1 $? $$", "  "),
        ("\\$a", "$a"),
        ("\\${a}", "${a}"),
        ("\\\\$a", "\\b"),
        ("\\x", "x"),
        ("x\\", "x"),
        ("'$a\\'", "$a\\"),
        ('"$a"', "b"),
        ('"\\$a \\" \\\\ \\x"', '$a " \\ \\x'),
        ("'a'\"b\"c", "abc"),
        ('"it\'s"', "it's"),
        ("${a:-x}", "b"),
        ("${none:-x}", "x"),
        ("${empty:-x}", "x"),
        ("${empty-x}", ""),
        ("${none-x}", "x"),
        ("${none:-}", ""),
        ("${none:-$a}", "b"),
        ("${none:-${other:-y}}", "y"),
        ("${none:-'}'}", "}"),
        ("${none:-\\}}", "}"),
        ("${a:+x}", "x"),
        ("${empty:+x}", ""),
        ("${empty+x}", "x"),
        ("${none+x}", ""),
        ("${none:+x}", ""),
        ("${a:?must}", "b"),
        ("${empty?must}", ""),
        ("${rep#f*b}", "arbaz"),
        ("${rep##f*b}", "az"),
        ("${rep%b*}", "foobar"),
        ("${rep%%b*}", "foo"),
        ("${rep/ba/fo}", "fooforbaz"),
        ("${rep//ba/fo}", "fooforfoz"),
        ("${rep//ba/}", "foorz"),
        ("${rep#\\f}", "oobarbaz"),
        ("${rep/$a/X}", "fooXarbaz"),
        ("${none#x}", ""),
    ],
)
def test_word(text: str, result: str) -> None:
    assert expander().word(text) == result


def test_the_other_escape() -> None:
    assert expander("`").word("`$a \\$a ``") == "$a \\b `"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("$spaced", ("c", "d")),
        ('"$spaced"', ("c  d",)),
        ("x${spaced}y", ("xc", "dy")),
        ("$none", ()),
        ('""', ("",)),
        ("80", ("80",)),
    ],
)
def test_words(text: str, words: tuple[str, ...]) -> None:
    assert expander().words(text) == words


def test_the_lines_of_a_heredoc() -> None:
    assert expander("`").body('it\'s "$a" \\$a `$a\n') == 'it\'s "b" $a `b\n'


def test_what_is_not_set_is_remembered() -> None:
    one = expander()
    one.word("$none ${other} ${third:-x} $a ${fourth#x}")
    assert one.undefined == {"none", "other", "fourth"}


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("'a", "single quote"),
        ('"a', "double quote"),
        ("${a", "not a variable"),
        ("${", "not a variable"),
        ("${}", "not a variable"),
        ("${ a}", "not a variable"),
        ("${a!b}", "unknown form"),
        ("${a:b}", "unknown form"),
        ("${a:", "unknown form"),
        ("${a:-b", "without its }"),
        ("${a/b}", "without its /"),
        ("${a/b/c", "without its }"),
        ("${none:?say why}", "none: say why"),
        ("${none?}", "none: must be set"),
        ("${empty:?}", "must be set and not be empty"),
        ("${a:-" * 60 + "}" * 60, "nested"),
        ("$big" * 3, "longer than"),
        ("${big//x/y}", "too long"),
        ("${a#" + "*" * 300 + "}", "too long"),
    ],
)
def test_refused(text: str, word: str) -> None:
    values = VALUES | {"big": "x" * 500_000}
    with pytest.raises(InvalidInput) as caught:
        Expander(lookup=values.get, place=PLACE).word(text)
    assert word in str(caught.value)
    assert "Dockerfile:7" in str(caught.value)


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not here")
def test_patterns_are_those_of_bash() -> None:
    forms = [
        f"${{v{operator}{pattern}{tail}}}"
        for operator, tail in (("#", ""), ("##", ""), ("%", ""), ("%%", ""), ("/", "/R"), ("//", "/R"))
        for pattern in ("*", "?", "*a", "a*", "a*b", "?b*", "*b?", "ab", "b", "*a*", "??", "z", "a?b", "\\*", "a\\b")
    ]
    for value in ("aabbab", "", "a", "*b*", "abcabc"):
        script = "v=$1\n" + "\n".join(f'printf "%s\\n" "{form}"' for form in forms)
        done = subprocess.run(["bash", "-c", script, "x", value], capture_output=True, text=True, check=True)
        ours = [Expander(lookup={"v": value}.get, place=PLACE).word(form) for form in forms]
        assert dict(zip(forms, ours, strict=True)) == dict(zip(forms, done.stdout.split("\n")[:-1], strict=True)), value
