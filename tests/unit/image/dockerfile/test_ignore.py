""".dockerignore leaves out what docker leaves out, and a walk may skip only what nothing takes back in."""

from __future__ import annotations

import pytest

from wherry.core.errors import InvalidInput
from wherry.image.dockerfile.ignore import ignore_names, parse_ignore


@pytest.mark.parametrize(
    ("patterns", "out", "kept"),
    [
        ("", "", "a"),
        ("# a\n\n  \n", "", "a"),
        ("a", "a a/b a/b/c", "b ab b/a"),
        ("/a/", "a a/b", "b/a"),
        ("./a", "a", "b"),
        ("../a", "", "a b"),
        ("a/../b", "b", "a"),
        ("  a  ", "a", "b"),
        ("a\r\nb\r\n", "a b", "c"),
        ("\ufeffa", "a", "b"),
        ("*", "a a/b .x", ""),
        (".", "", "a"),
        ("/", "", "a"),
        ("*\n!.", "a", ""),
        ("*.o", "a.o .o x.o/y", "a.c d/a.o"),
        ("*/*.o", "d/a.o", "a.o d/e/a.o"),
        ("**/*.o", "a.o d/a.o d/e/a.o", "a.c"),
        ("**.o", "a.o d/a.o d/e/a.o", "a.c"),
        ("a/**", "a/b a/b/c", "a b"),
        ("a/**/c", "a/c a/b/c a/b/b/c a/c/d", "a a/b"),
        ("a**c", "ac abc a/c ab/d/xc", "a c"),
        ("**", "a a/b", ""),
        ("a?", "ab", "a abc a/b"),
        ("[a-c]x", "ax cx", "dx x"),
        ("[^a]x", "bx", "ax"),
        ("\\*x", "*x", "ax"),
        ("a.b", "a.b", "axb"),
        ("*\n!a", "b b/a", "a a/b"),
        ("a\n!a/b", "a a/c", "a/b a/b/c"),
        ("!a\na", "a", "b"),
        ("*.md\n!README*.md\nREADME-secret.md", "x.md README-secret.md", "README.md README-x.md"),
        ("! a", "", "a"),
        ("Dockerfile\n.dockerignore", "Dockerfile .dockerignore", "x"),
        ("#a", "", "a #a"),
        ("*a*b*c", "abc xaybzc aabbcc", "ab acb abcx"),
    ],
)
def test_excluded(patterns: str, out: str, kept: str) -> None:
    ignore = parse_ignore(patterns.encode())
    assert [path for path in (out + " " + kept).split() if ignore.excludes(path)] == out.split()


@pytest.mark.parametrize(
    ("patterns", "directory", "pruned"),
    [
        ("a", "a", True),
        ("a", "a/b", True),
        ("a", "b", False),
        ("*", "a", True),
        ("a\n!a/b", "a", False),
        ("a\n!a/b", "a/c", True),
        ("a\n!b", "a", True),
        ("a\n!b/c", "a", True),
        ("*\n!*.c", "a", True),
        ("*\n!**/*.c", "a", False),
        ("*\n!a/**", "a", False),
        ("!a/b\na", "a", True),
        ("a/**", "a", False),
        ("a/**", "a/b", True),
    ],
)
def test_pruned(patterns: str, directory: str, pruned: bool) -> None:
    assert parse_ignore(patterns.encode()).prunes(directory) is pruned


@pytest.mark.parametrize(
    ("patterns", "words"),
    [
        ("a\n[a", "without its ]"),
        ("[]", "not closed"),
        ("[b-a]", "backwards"),
        ("a\\", "backslash"),
        ("!", "! without a pattern"),
        ("a" * 5000, "4096"),
        ("a\n" * 10_001, "10000 patterns"),
        ("a**b**c**d**e**f", "** within names"),
    ],
)
def test_refused(patterns: str, words: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        parse_ignore(patterns.encode())
    assert words in str(caught.value)


def test_many_stars_are_quick() -> None:
    ignore = parse_ignore(b"*a" * 1000 + b"\n" + b"**/a/" * 200 + b"b\n")
    assert not ignore.excludes("a" * 900)
    assert not ignore.excludes("a/" * 1000 + "a")


def test_names() -> None:
    assert ignore_names("sub/app.Dockerfile") == ("sub/app.Dockerfile.dockerignore", ".dockerignore")
