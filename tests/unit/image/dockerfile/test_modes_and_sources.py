"""``--chmod`` does what chmod(1) does; sources of ADD are told apart; mounts have docker's defaults; scripts of RUN."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from wherry.core.errors import InvalidInput
from wherry.image.dockerfile.modes import parse_chmod
from wherry.image.dockerfile.mounts import (
    BindMount,
    CacheMount,
    RunMount,
    SecretMount,
    SshMount,
    TmpfsMount,
    read_mount,
    split_mount,
)
from wherry.image.dockerfile.parsing import parse_instruction
from wherry.image.dockerfile.problems import Place
from wherry.image.dockerfile.runs import Script, run_script
from wherry.image.dockerfile.sources import AddSource, GitSource, PathSource, UrlSource, classify
from wherry.image.dockerfile.syntax import Run

PLACE = Place(where="Dockerfile", line=1)


def test_modes_are_those_of_chmod(tmp_path: Path) -> None:
    file, folder = tmp_path / "file", tmp_path / "folder"
    file.touch()
    folder.mkdir()
    changes = (
        *("755", "0640", "4711", "a+x", "u+x", "go-rwx", "u=rwX,go=rX", "g=u", "o=g,u+s", "ug+s", "+t", "u+t", "o=r"),
        *("a=,u+r", "u-x+w", "g+X", "a=rw", "u=rwx,g=o", "a-s", "o-t"),
    )
    for mode in (0o644, 0o755, 0o4750, 0o600, 0o1777):
        for change in changes:
            change_ = parse_chmod(change, PLACE)
            for path in (file, folder):
                if path is folder and ("s" in change or change.isdigit() or mode & 0o6000):
                    continue  # GNU's chmod keeps the set-id bits of directories in ways that POSIX leaves open
                path.chmod(mode)
                subprocess.run(["chmod", change, str(path)], check=True, umask=0)
                got = change_.apply(mode, directory=path is folder)
                assert oct(got) == oct(path.stat().st_mode & 0o7777), (oct(mode), change, path.name)


@pytest.mark.parametrize("text", ["8", "77777", "u", "x+r", "u+", "u+r,", "+" * 2000, "u=rwz", "a+ug"])
def test_bad_modes(text: str) -> None:
    if text == "u+":  # chmod(1) takes it, and does nothing
        assert parse_chmod(text, PLACE).apply(0o644, directory=False) == 0o644
        return
    with pytest.raises(InvalidInput, match="not a mode"):
        parse_chmod(text, PLACE)


@pytest.mark.parametrize(
    ("text", "source"),
    [
        ("a/b*", PathSource(path="a/b*")),
        ("x.git", PathSource(path="x.git")),
        ("http://h/a/b.tar.gz?x=1", UrlSource(url="http://h/a/b.tar.gz?x=1", file_name="b.tar.gz")),
        ("https://h", UrlSource(url="https://h", file_name="")),
        ("https://h/r.git", GitSource(remote="https://h/r.git")),
        ("https://h/r.git#v1:docs/x", GitSource(remote="https://h/r.git", ref="v1", subdirectory="docs/x")),
        ("https://h/r.git?ref=v1&subdir=d", GitSource(remote="https://h/r.git", ref="v1", subdirectory="d")),
        ("git://h/r#:d", GitSource(remote="git://h/r", subdirectory="d")),
        ("git@h:o/r.git#main", GitSource(remote="git@h:o/r.git", ref="main")),
        ("ssh://git@h/r", GitSource(remote="ssh://git@h/r")),
    ],
)
def test_sources(text: str, source: AddSource) -> None:
    assert classify(text, PLACE) == source


@pytest.mark.parametrize("text", ["http://", "http://[::1", "http://h:x/", "a" * 9000])
def test_bad_sources(text: str) -> None:
    with pytest.raises(InvalidInput):
        classify(text, PLACE)


@pytest.mark.parametrize(
    ("text", "mount"),
    [
        ("target=/a", BindMount(target="/a")),
        ("type=bind,from=s,src=/x,dst=/a,rw", BindMount(target="/a", source="/x", from_="s", read_only=False)),
        ("target=/a,rw=false", BindMount(target="/a")),
        ("type=cache,target=/a", CacheMount(target="/a", id="/a")),
        (
            "type=CACHE,target=/a,id=i,ro,sharing=private,mode=0700,uid=5,gid=6,from=f,source=s",
            CacheMount(
                target="/a", id="i", read_only=True, sharing="private", mode=0o700, uid=5, gid=6, from_="f", source="s"
            ),
        ),
        ("type=tmpfs,target=/a,size=1m", TmpfsMount(target="/a", size_bytes=1 << 20)),
        ("type=secret,id=s", SecretMount(id="s", target="/run/secrets/s")),
        ("type=secret,target=/x/y", SecretMount(id="y", target="/x/y")),
        ("type=secret,id=s,env=S", SecretMount(id="s", env="S")),
        ("type=secret,src=s,target=/x,env=S,required", SecretMount(id="s", target="/x", env="S", required=True)),
        ("type=ssh", SshMount()),
        ("type=ssh,id=k,target=/s,required=true,mode=666", SshMount(id="k", target="/s", required=True, mode=0o666)),
        ('target=/a,"source=x,y"', BindMount(target="/a", source="x,y")),
    ],
)
def test_mounts(text: str, mount: RunMount) -> None:
    assert read_mount(split_mount(text, PLACE), PLACE) == mount


@pytest.mark.parametrize(
    ("text", "script"),
    [
        ("RUN a b", Script(args=("/bin/sh", "-c", "a b"))),
        ('RUN ["a", "b"]', Script(args=("a", "b"))),
        ("RUN <<E\na\nb\nE", Script(args=("/bin/sh", "-c", "a\nb\n"))),
        ("RUN <<-E\n\ta\n\tE", Script(args=("/bin/sh", "-c", "a\n"))),
        (
            "RUN <<'E'\n#!/usr/bin/python3\nx\nE",
            Script(args=("/bin/sh", "-c", "/dev/pipes/E"), file_name="E", file_content="#!/usr/bin/python3\nx\n"),
        ),
        ("RUN cat <<E >f\na\nE", Script(args=("/bin/sh", "-c", "cat <<E >f\na\nE"))),
        ("RUN cat <<A <<-B\na\nA\n\tb\n\tB", Script(args=("/bin/sh", "-c", "cat <<A <<-B\na\nA\n\tb\nB"))),
    ],
)
def test_scripts(text: str, script: Script) -> None:
    node = parse_instruction(text, where="x")
    assert isinstance(node, Run)
    assert run_script(node) == script


def test_scripts_of_another_shell() -> None:
    node = parse_instruction("RUN a", where="x")
    assert isinstance(node, Run)
    assert run_script(node, ("/bin/bash", "-euc")).args == ("/bin/bash", "-euc", "a")
