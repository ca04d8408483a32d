"""Which variables each instruction sees, and what it must be once they are replaced."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from wherry.core.errors import InvalidInput
from wherry.image.dockerfile.expansion import GlobalArgs, Scope, unused_args
from wherry.image.dockerfile.lint import tell
from wherry.image.dockerfile.parsing import parse_dockerfile
from wherry.image.dockerfile.syntax import (
    Add,
    Arg,
    Cmd,
    Copy,
    Directives,
    Env,
    ExecForm,
    Expose,
    Heredoc,
    Instruction,
    Label,
    MountFlag,
    Onbuild,
    Run,
    ShellForm,
    Stopsignal,
    User,
    Volume,
    Workdir,
)
from wherry.image.platforms import Platform

ARM = Platform(architecture="arm", variant="v7")
AMD = Platform(architecture="amd64")


def walk(
    text: str, given: Mapping[str, str] | None = None, env: Mapping[str, str] | None = None
) -> tuple[list[Instruction], Scope]:
    """Expands the last stage."""
    file = parse_dockerfile(text.encode())
    known = GlobalArgs.of(file, given or {}, target=ARM, build=AMD)
    known.expand_from(file.stages[-1].base)
    scope = Scope(globals=known, env=dict(env or {}))
    return [scope.expand(node) for node in file.stages[-1].instructions], scope


@pytest.mark.parametrize(
    ("line", "node"),
    [
        ("ADD $V /$V", Add(sources=("1",), destination="/1")),
        (
            "COPY --chown=$V:2 --chmod=64$V --exclude=$V a$V 'b $V' /d/",
            None,
        ),
        ("ENV A$V=$V B='$V' C=\"x $V\" D=x\\ y", Env(pairs=(("A1", "1"), ("B", "$V"), ("C", "x 1"), ("D", "x y")))),
        ("ENV A $V  b", Env(pairs=(("A", "1  b"),))),
        ("LABEL a.$V=\"$V\"", Label(pairs=(("a.1", "1"),))),
        ("EXPOSE 8$V/udp $P", Expose(ports=("81/udp", "90", "91"))),
        ("STOPSIGNAL $V", Stopsignal(signal="1")),
        ("USER u$V", User(user="u1")),
        ("WORKDIR /w$V", Workdir(path="/w1")),
        ('VOLUME ["/a$V", "/b"]', Volume(paths=("/a1", "/b"))),
        ("RUN echo $V", Run(command=ShellForm(text="echo $V"))),
        (
            "RUN --mount=type=cache,id=i$V,target=/$V x",
            Run(
                command=ShellForm(text="x"),
                mounts=(MountFlag(type="cache", options=(("id", "i1"), ("target", "/1"))),),
            ),
        ),
        ('CMD ["$V"]', Cmd(command=ExecForm(args=("$V",)))),
        ("ARG A=$V B", Arg(pairs=(("A", "1"), ("B", None)))),
        ("ONBUILD ENV A=$V", Onbuild(expression="ENV A=$V", trigger=Env(pairs=(("A", "$V"),)))),
        (
            "COPY <<E <<'F' <<-G /d/\n$V 'x'\nE\n$V\nF\n\t$V\nG",
            Copy(
                sources=(
                    Heredoc(name="E", lines="1 'x'\n", expand=False),
                    Heredoc(name="F", lines="$V\n", expand=False),
                    Heredoc(name="G", lines="1\n", expand=False),
                ),
                destination="/d/",
            ),
        ),
    ],
)  # fmt: skip
def test_each_instruction(line: str, node: Instruction | None) -> None:
    text = f"FROM a\n{line}\n"
    if node is None:  # quotes mean nothing to the words of COPY, so that one stays open
        with pytest.raises(InvalidInput, match="single quote stays open"):
            walk(text, env={"V": "1", "P": "90 91"})
        return
    assert walk(text, env={"V": "1", "P": "90 91"})[0] == [node]


def test_copy_with_all_its_flags() -> None:
    (node,), _ = walk("FROM a\nCOPY --chown=$V:2 --chmod=64$V --exclude=$V a$V /d", env={"V": "1"})
    assert node == Copy(sources=("a1",), destination="/d", chown="1:2", chmod="641", exclude=("1",))


def test_an_instruction_sees_what_was_before_it() -> None:
    nodes, _ = walk("FROM x\nENV abc=hello\nENV abc=bye def=$abc\nENV ghi=$abc\n")
    assert nodes[1:] == [Env(pairs=(("abc", "bye"), ("def", "hello"))), Env(pairs=(("ghi", "bye"),))]


@pytest.mark.parametrize(
    ("text", "given", "value"),
    [
        ("FROM x\nARG A=d\n", {}, "d"),
        ("FROM x\nARG A=d\n", {"A": "g"}, "g"),
        ("FROM x\nARG A\n", {"A": "g"}, "g"),
        ("FROM x\nARG A\n", {}, ""),
        ("ARG A=top\nFROM x\n", {}, None),
        ("ARG A=top\nFROM x\nARG A\n", {}, "top"),
        ("ARG A=top\nFROM x\nARG A=d\n", {}, "d"),
        ("ARG A=top\nFROM x\nARG A\n", {"A": "g"}, "g"),
        ("ARG B=1\nARG A=x$B\nFROM x\nARG A\n", {"B": "2"}, "x2"),
        ("FROM x\nENV A=e\nARG A=d\n", {"A": "g"}, "e"),
        ("FROM x\nARG A=d\nENV A=e\n", {"A": "g"}, "e"),
        ("FROM x\nARG A=d\nARG A\n", {}, "d"),
        ("FROM x\nARG A=d\nARG A=f\n", {}, "f"),
        ("FROM x\nARG B=1\nARG A=$B\n", {}, "1"),
        ("FROM x\nARG TARGETARCH\nARG A=$TARGETARCH\n", {}, "arm"),
        ("FROM x\nARG A=$TARGETARCH\n", {}, ""),
    ],
)
def test_arguments(text: str, given: dict[str, str], value: str | None) -> None:
    assert walk(text, given)[1].lookup("A") == value


def test_platforms() -> None:
    names = "TARGETPLATFORM TARGETOS TARGETARCH TARGETVARIANT BUILDPLATFORM BUILDOS BUILDARCH BUILDVARIANT TARGETSTAGE"
    _, scope = walk(f"FROM x\nARG {names}\n", {"BUILDOS": "given"})
    assert scope.arg_values() == {
        "TARGETPLATFORM": "linux/arm/v7",
        "TARGETOS": "linux",
        "TARGETARCH": "arm",
        "TARGETVARIANT": "v7",
        "BUILDPLATFORM": "linux/amd64",
        "BUILDOS": "given",
        "BUILDARCH": "amd64",
        "BUILDVARIANT": "",
        "TARGETSTAGE": "default",
    }


def test_from_sees_the_global_arguments_alone() -> None:
    file = parse_dockerfile(b"ARG V=1\nFROM --platform=$BUILDPLATFORM a:$V-$TARGETARCH$HTTP_PROXY\n")
    known = GlobalArgs.of(file, {"V": "2", "HTTP_PROXY": "p"}, target=ARM, build=AMD)
    base = known.expand_from(file.stages[0].base)
    assert (base.image, base.platform) == ("a:2-arm", "linux/amd64")
    assert [note.rule for note in known.notes] == ["UndefinedArgInFrom"]


def test_from_without_a_name() -> None:
    with pytest.raises(InvalidInput, match="name of the image is empty"):
        walk("FROM $none\n")


def test_the_environment_of_run() -> None:
    given = {"HTTP_PROXY": "p", "no_proxy": "n", "A": "a", "B": "b", "U": "u"}
    _, scope = walk("FROM x\nARG A B no_proxy E\nENV B=e\n", given, {"PATH": "/bin"})
    assert scope.run_environment() == {"HTTP_PROXY": "p", "no_proxy": "n", "A": "a", "B": "e", "PATH": "/bin"}
    assert scope.arg_values() == {"A": "a", "no_proxy": "n"}


def test_a_stage_inherits_arguments_of_the_one_below() -> None:
    _, scope = walk("FROM x\nARG A=1\nENV B=2\n")
    child = scope.child({"B": "3"})
    assert (child.lookup("A"), child.lookup("B")) == ("1", "3")


def test_unused_arguments() -> None:
    file = parse_dockerfile(b"ARG A\nFROM x\nARG B\nONBUILD ARG C\n")
    given = dict.fromkeys(["A", "B", "C", "D", "http_proxy", "SOURCE_DATE_EPOCH", "TARGETARCH", "E"], "")
    assert unused_args(file, given) == ("D", "E")


def test_notes() -> None:
    _, scope = walk("FROM x\nENV A=$none\nEXPOSE 1/TCP 80:90\nARG D\nENV B=$D\n")
    assert [(note.rule, note.line) for note in scope.globals.notes] == [
        ("UndefinedVar", 2),
        ("ExposeProtoCasing", 3),
        ("ExposeInvalidFormat", 3),
    ]
    assert [
        note.line for note in tell(scope.globals.notes, Directives(skip_checks=frozenset({"UndefinedVar"})), "x")
    ] == [3, 3]
    with pytest.raises(InvalidInput, match="the variable none is not set: x:2"):
        tell(scope.globals.notes, Directives(check_error=True), "x")


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("EXPOSE $none 70000", "not a port"),
        ("EXPOSE 80/icmp", "not a port"),
        ("EXPOSE 9-8", "not a port"),
        ("STOPSIGNAL SIGNONE", "not a signal"),
        ("STOPSIGNAL 65", "not a signal"),
        ("STOPSIGNAL RTMIN+31", "not a signal"),
        ("USER $none", "empty"),
        ("WORKDIR $none", "empty"),
        ("VOLUME $none", "a path is empty"),
        ("ENV $none=x", "not a name"),
        ("COPY $none /a", "a source is empty"),
        ("COPY a $none", "destination is empty"),
        ("COPY a b /c", "the destination is no directory"),
        ("COPY --chmod=999 a b", "not a mode"),
        ("COPY --chmod=u+q a b", "not a mode"),
        ("ADD --checksum=sha256:00 https://h/x /x", "not a checksum"),
        ("ADD --checksum=sha256:00 x /x", "not with a file"),
        ("ADD --checksum=xyz https://h/x.git /x", "not a commit"),
        ("ADD --checksum=00 https://h/x https://h/y /x/", "one source"),
        ("RUN --mount=type=cache,target=/a,mode=$none a", "not a mode"),
        ("ENV A='x", "single quote"),
        ('ENV A="${B:?say why}"', "B: say why"),
    ],
)
def test_refused(line: str, words: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        walk(f"FROM a\n\n{line}\n")
    assert words in str(caught.value)
    assert "Dockerfile:3" in str(caught.value)


@pytest.mark.parametrize(
    "line",
    [
        "COPY a b .", "COPY a b ./", "COPY a b ..", "STOPSIGNAL term", "STOPSIGNAL 9", "STOPSIGNAL SIGRTMIN+3",
        "ADD --checksum=ab12 https://h/x.git /x", "COPY --chmod=+x a b", "COPY --chmod=u=rwX,go=rX a b",
        "EXPOSE 1-9/sctp",
    ],
)  # fmt: skip
def test_taken(line: str) -> None:
    assert len(walk(f"FROM a\n{line}\n")[0]) == 1
