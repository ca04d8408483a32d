"""Every instruction and flag becomes its node, and every mistake is told with its line."""

from __future__ import annotations

import pytest

from wherry.core.errors import InvalidInput
from wherry.image.dockerfile.parsing import parse_dockerfile, parse_instruction
from wherry.image.dockerfile.syntax import (
    Add,
    Arg,
    Cmd,
    Copy,
    Entrypoint,
    Env,
    ExecForm,
    Expose,
    From,
    Healthcheck,
    Instruction,
    Label,
    Maintainer,
    MountFlag,
    Onbuild,
    Run,
    Shell,
    ShellForm,
    Stopsignal,
    User,
    Volume,
    Workdir,
)

S_NS = 10**9


def shell(text: str) -> ShellForm:
    return ShellForm(text=text)


def args(*words: str) -> ExecForm:
    return ExecForm(args=words)


@pytest.mark.parametrize(
    ("text", "node"),
    [
        ("FROM a:1", From(image="a:1")),
        ("FROM --platform=$P a AS Build-1", From(image="a", platform="$P", stage_name="build-1")),
        ("from a as b", From(image="a", stage_name="b")),
        ("RUN a 'b  c' \"d\"", Run(command=shell("a 'b  c' \"d\""))),
        ('RUN ["a", "b c"]', Run(command=args("a", "b c"))),
        ('RUN ["a", "b" ] && c', Run(command=shell('["a", "b" ] && c'))),
        ("RUN ['a']", Run(command=shell("['a']"))),
        ("RUN [ -f /x ]", Run(command=shell("[ -f /x ]"))),
        ("RUN --network=none a", Run(command=shell("a"), network="none")),
        ("RUN --network=host -- --a", Run(command=shell("--a"), network="host")),
        (
            "RUN --mount=type=cache,dst=/c,sharing=locked --mount=from=b,target=/b,rw a",
            Run(
                command=shell("a"),
                mounts=(
                    MountFlag(type="cache", options=(("target", "/c"), ("sharing", "locked"))),
                    MountFlag(type="bind", options=(("from", "b"), ("target", "/b"), ("readwrite", "true"))),
                ),
            ),
        ),
        ('CMD ["a"]', Cmd(command=args("a"))),
        ("CMD a", Cmd(command=shell("a"))),
        ("CMD []", Cmd(command=args())),
        ('CMD ["\\u00e9\\ud800"]', Cmd(command=args("é\N{REPLACEMENT CHARACTER}"))),
        ('ENTRYPOINT ["a"]', Entrypoint(command=args("a"))),
        ("ENTRYPOINT exec a", Entrypoint(command=shell("exec a"))),
        ("LABEL a=b \"c d\"='e f'", Label(pairs=(("a", "b"), ('"c d"', "'e f'")))),
        ("LABEL a b c", Label(pairs=(("a", "b c"),))),
        ("MAINTAINER A <a@b>", Maintainer(name="A <a@b>")),
        ("EXPOSE 80 53/udp $P", Expose(ports=("80", "53/udp", "$P"))),
        ("ENV A=b C=d\\ e F=", Env(pairs=(("A", "b"), ("C", "d\\ e"), ("F", "")))),
        ("ENV A b = c", Env(pairs=(("A", "b = c"),))),
        ("ENV A=b=c", Env(pairs=(("A", "b=c"),))),
        ("ADD a b /c/", Add(sources=("a", "b"), destination="/c/")),
        (
            "ADD --chown=1 --chmod=755 --link --checksum=ab --keep-git-dir --unpack=false --exclude=x --exclude=y a /b",
            Add(
                sources=("a",),
                destination="/b",
                chown="1",
                chmod="755",
                link=True,
                checksum="ab",
                keep_git_dir=True,
                unpack=False,
                exclude=("x", "y"),
            ),
        ),
        ('COPY ["a b", "/c d/"]', Copy(sources=("a b",), destination="/c d/")),
        (
            "COPY --from=0 --chown=a --chmod=u=rwX,go=rX --link=false --parents --exclude=*.o a b",
            Copy(
                sources=("a",),
                destination="b",
                from_="0",
                chown="a",
                chmod="u=rwX,go=rX",
                parents=True,
                exclude=("*.o",),
            ),
        ),
        ('COPY --chown="a b" x y', Copy(sources=("x",), destination="y", chown="a b")),
        ("VOLUME /a /b", Volume(paths=("/a", "/b"))),
        ('VOLUME ["/a b"]', Volume(paths=("/a b",))),
        ("USER a:b", User(user="a:b")),
        ("WORKDIR /a b", Workdir(path="/a b")),
        ("ARG A", Arg(pairs=(("A", None),))),
        ("ARG A= B=\"c d\" C", Arg(pairs=(("A", ""), ("B", '"c d"'), ("C", None)))),
        ("ONBUILD RUN a", Onbuild(expression="RUN a", trigger=Run(command=shell("a")))),
        ("onbuild copy . /x", Onbuild(expression="copy . /x", trigger=Copy(sources=(".",), destination="/x"))),
        ("STOPSIGNAL SIGQUIT", Stopsignal(signal="SIGQUIT")),
        ("HEALTHCHECK NONE", Healthcheck(command=None)),
        ("HEALTHCHECK cmd a b", Healthcheck(command=shell("a b"))),
        (
            'HEALTHCHECK --interval=1m30s --timeout=1.5s --start-period=1h --start-interval=.5s --retries=7 CMD ["a"]',
            Healthcheck(
                command=args("a"),
                interval_ns=90 * S_NS,
                timeout_ns=3 * S_NS // 2,
                start_period_ns=3600 * S_NS,
                start_interval_ns=S_NS // 2,
                retries=7,
            ),
        ),
        ('SHELL ["/bin/bash", "-c"]', Shell(args=("/bin/bash", "-c"))),
    ],
)  # fmt: skip
def test_read(text: str, node: Instruction) -> None:
    assert parse_instruction(text, where="x") == node


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("FORM a", "did you mean FROM?"),
        ("EOF", "heredoc"),
        ("JUMP x", "instructions are"),
        ("FROM", "got nothing"),
        ("FROM a b", "got 2 words"),
        ("FROM a IS b", "got 3 words"),
        ("FROM a AS 1b", "not a name for a stage: '1b'"),
        ("FROM --platfrom=x a", "did you mean --platform?"),
        ("FROM --platform a", "--platform needs a value"),
        ("RUN", "needs a command"),
        ("RUN []", "needs a command"),
        ("RUN [1]", "strings is needed, not of numbers"),
        ('RUN [["a"]]', "not of lists"),
        ('RUN ["a\\u0000"]', "NUL"),
        ("RUN --security=insecure a", "--security is refused"),
        ("RUN --device=x a", "--device is refused"),
        ("RUN --network=nome a", "did you mean none?"),
        ("RUN --mount=type=bnd,target=/a a", "not a type of mount: 'bnd'"),
        ("RUN --mount=target=/a,targt=/b a", "did you mean target?"),
        ("RUN --mount=type=cache a", "needs a target"),
        ("RUN --mount=type=cache,target=/a,sharing=lock a", "did you mean locked?"),
        ("RUN --mount=type=cache,target=/a,required a", "has no required"),
        ("RUN --mount=type=cache,target=/a,mode=9 a", "not a mode"),
        ("RUN --mount=type=cache,target=/a,uid=x a", "uid is a number"),
        ("RUN --mount=type=tmpfs,target=/a,size=x a", "not a size"),
        ("RUN --mount=type=tmpfs,target=/a,from=x a", "has no from"),
        ("RUN --mount=type=bind,target=/a,ro=maybe a", "readonly is true or false"),
        ("RUN --mount=type=bind,from=$x,target=/a a", "takes no variables"),
        ("RUN --mount=type=secret a", "needs an id"),
        ("RUN --mount=type=secret,id=a,source=b a", "both source and id"),
        ("RUN --mount=type=secret,id=a,env=1x a", "name of a variable"),
        ("RUN --mount=target a", "needs a value"),
        ('RUN --mount=\\"a,target=/ a', "--mount"),
        ("CMD", "needs an argument"),
        ("CMD --a=b c", "CMD has no flags"),
        ("ENTRYPOINT", "needs an argument"),
        ("LABEL", "needs an argument"),
        ("LABEL a", "NAME=VALUE expected"),
        ("LABEL a=b c", "got 'c'"),
        ("MAINTAINER", "needs an argument"),
        ("EXPOSE", "needs an argument"),
        ("ENV", "needs an argument"),
        ("ENV A", "NAME=VALUE expected"),
        ("ENV =a", "NAME=VALUE expected"),
        ("ADD a", "got only 'a'"),
        ("ADD --from=x a b", "write COPY --from"),
        ("COPY", "got nothing"),
        ("COPY --form=x a b", "did you mean --from?"),
        ("COPY --link=yes a b", "true or false"),
        ("COPY --from=a --from=b c d", "twice"),
        ("COPY --from=$a b c", "takes no variables"),
        ("COPY --from=b <<E c\nE", "no other stage"),
        ("COPY a <<E\nE", "cannot be the destination"),
        ("COPY --chown a b", "needs a value"),
        ('RUN ["a"] <<E\nE', None),
        ("VOLUME", "needs a path"),
        ("VOLUME []", "needs a path"),
        ('VOLUME [""]', "needs a path"),
        ("VOLUME [1]", "strings"),
        ("USER", "needs an argument"),
        ("WORKDIR", "needs an argument"),
        ("ARG", "needs an argument"),
        ("ARG 1=a", "not the name of a variable"),
        ("ONBUILD", "needs an argument"),
        ("ONBUILD ONBUILD RUN a", "ONBUILD is not allowed"),
        ("ONBUILD from a", "FROM is not allowed"),
        ("ONBUILD MAINTAINER a", "MAINTAINER is not allowed"),
        ("ONBUILD RNU a", "did you mean RUN?"),
        ("STOPSIGNAL", "needs an argument"),
        ("STOPSIGNAL a b", "one signal expected"),
        ("HEALTHCHECK", "got nothing"),
        ("HEALTHCHECK RUN a", "got 'RUN'"),
        ("HEALTHCHECK CMD", "needs a command"),
        ("HEALTHCHECK NONE a", "takes no arguments"),
        ("HEALTHCHECK --interval=1 CMD a", "not a duration"),
        ("HEALTHCHECK --interval=1us CMD a", "from 1ms"),
        ("HEALTHCHECK --retries=-1 CMD a", "is a number"),
        ("HEALTHCHECK --every=1s CMD a", "HEALTHCHECK takes --interval"),
        ("SHELL bash -c", "JSON list expected"),
        ("SHELL []", "JSON list expected"),
        ("USER a\nUSER b", "one instruction expected, got 2"),
        ("# x", "one instruction expected, got none"),
    ],
)
def test_refused(text: str, words: str | None) -> None:
    if words is None:  # a list followed by anything is a shell command
        assert isinstance(parse_instruction(text, where="x"), Run)
        return
    with pytest.raises(InvalidInput) as caught:
        parse_instruction(text, where="file")
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_error_shows_its_line() -> None:
    with pytest.raises(InvalidInput) as caught:
        parse_dockerfile(b"FROM a\n\nCOPY --frmo=b \\\n  c d\n", where="dir/Dockerfile")
    assert str(caught.value) == "COPY: unknown flag --frmo: dir/Dockerfile:3: COPY --frmo=b   c d; did you mean --from?"


@pytest.mark.parametrize("text", ["RUN a\nFROM b", "ARG a\nENV b=c\nFROM d"])
def test_only_arg_stands_before_from(text: str) -> None:
    with pytest.raises(InvalidInput, match="before the first FROM"):
        parse_dockerfile(text.encode())


def test_stages() -> None:
    file = parse_dockerfile(b"ARG v=1\nFROM a:$v AS one\nRUN x\nFROM one\nUSER u\n")
    assert [arg.pairs for arg in file.global_args] == [(("v", "1"),)]
    assert [(stage.index, stage.name, stage.base.image, len(stage.instructions)) for stage in file.stages] == [
        (0, "one", "a:$v", 1),
        (1, "1", "one", 1),
    ]


@pytest.mark.parametrize(
    ("text", "rule", "line"),
    [
        ("FROM a\nRUN x \\\n\n y", "NoEmptyContinuation", 3),
        ("FROM a\nMAINTAINER m", "MaintainerDeprecated", 2),
        ("FROM a\nENV a b", "LegacyKeyValueFormat", 2),
        ("FROM a AS B", "StageNameCasing", 1),
        ("FROM a as b", "FromAsCasing", 1),
        ("FROM a AS scratch", "ReservedStageName", 1),
        ("FROM a AS b\nFROM c AS b", "DuplicateStageName", 1),
        ("FROM a\nCMD x", "JSONArgsRecommended", 2),
        ("FROM a\nRUN ['x']", "JSONArgsRecommended", 2),
        ('FROM a\nCMD ["x"]\nCMD ["y"]', "MultipleInstructionsDisallowed", 2),
        ("FROM a\nARG PUBLIC_KEY\nENV DB_PASSWORD=x", "SecretsUsedInArgOrEnv", 3),
        ("FROM a\nWORKDIR b\nWORKDIR c", "WorkdirRelativePath", 2),
        ("FROM a\nUSER b\nuser c", "ConsistentInstructionCasing", 3),
        ("FROM --platform=$TARGETPLATFORM a", "RedundantTargetPlatform", 1),
        ("FROM --platform=linux/arm64 a", "FromPlatformFlagConstDisallowed", 1),
    ],
)
def test_notes(text: str, rule: str, line: int) -> None:
    assert [(note.rule, note.line) for note in parse_dockerfile(text.encode()).notes] == [(rule, line)]
    assert not parse_dockerfile(f"# check=skip={rule}\n{text}".encode()).notes
    assert not parse_dockerfile(f"# check=skip=all\n{text}".encode()).notes
