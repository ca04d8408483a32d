"""What instructions do to a config, and what the history says of them."""

from __future__ import annotations

from typing import Any

import pytest

from wherry.image.config import make_config
from wherry.image.dockerfile.effects import apply_to_document, base_env, created_by
from wherry.image.dockerfile.expansion import Scope
from wherry.image.dockerfile.parsing import parse_instruction
from wherry.image.dockerfile.syntax import Cmd

S_NS = 10**9


def applied(config: dict[str, Any], *lines: str) -> dict[str, Any]:
    document: dict[str, Any] = {"config": config}
    cmd_set = False
    for line in lines:
        node = parse_instruction(line, where="x")
        apply_to_document(document, node, cmd_set=cmd_set)
        cmd_set = cmd_set or isinstance(node, Cmd)
    make_config(document)
    found: dict[str, Any] = document["config"]
    return found


@pytest.mark.parametrize(
    ("before", "lines", "after"),
    [
        ({"Cmd": ["x"]}, ['ENTRYPOINT ["e"]'], {"Cmd": None, "Entrypoint": ["e"]}),
        ({}, ['CMD ["c"]', 'ENTRYPOINT ["e"]'], {"Cmd": ["c"], "Entrypoint": ["e"]}),
        ({"Entrypoint": ["x"]}, ["ENTRYPOINT []"], {"Entrypoint": None, "Cmd": None}),
        ({}, ["CMD []"], {"Cmd": []}),
        ({}, ["CMD a"], {"Cmd": ["/bin/sh", "-c", "a"]}),
        ({"Shell": ["/bin/bash", "-c"]}, ["CMD a"], {"Shell": ["/bin/bash", "-c"], "Cmd": ["/bin/bash", "-c", "a"]}),
        ({"Env": ["A=1", "B=2"]}, ["ENV A=3 C=4"], {"Env": ["A=3", "B=2", "C=4"]}),
        ({"Labels": {"a": "1"}}, ["LABEL a=2 b=3"], {"Labels": {"a": "2", "b": "3"}}),
        ({"ExposedPorts": {"1/tcp": {}}}, ["EXPOSE 2/udp 3-4"],
         {"ExposedPorts": {"1/tcp": {}, "2/udp": {}, "3/tcp": {}, "4/tcp": {}}}),
        ({"Volumes": {"/a": {}}}, ["VOLUME /b"], {"Volumes": {"/a": {}, "/b": {}}}),
        ({"User": "a"}, ["USER b:c"], {"User": "b:c"}),
        ({}, ["WORKDIR a", "WORKDIR ../b/./c/"], {"WorkingDir": "/b/c"}),
        ({"WorkingDir": "/x"}, ["WORKDIR /y//z"], {"WorkingDir": "/y/z"}),
        ({}, ["WORKDIR //a"], {"WorkingDir": "/a"}),
        ({}, ["STOPSIGNAL SIGINT"], {"StopSignal": "SIGINT"}),
        ({}, ['SHELL ["a"]'], {"Shell": ["a"]}),
        ({"OnBuild": ["RUN a"]}, ["ONBUILD RUN b"], {"OnBuild": ["RUN a", "RUN b"]}),
        ({"Healthcheck": {"Test": ["CMD", "x"]}}, ["HEALTHCHECK NONE"], {"Healthcheck": {"Test": ["NONE"]}}),
        ({}, ['HEALTHCHECK --interval=1s --timeout=2s --start-period=3s --start-interval=4s --retries=5 CMD ["a"]'],
         {"Healthcheck": {"Test": ["CMD", "a"], "Interval": S_NS, "Timeout": 2 * S_NS, "StartPeriod": 3 * S_NS,
                          "StartInterval": 4 * S_NS, "Retries": 5}}),
        ({}, ["HEALTHCHECK CMD a"], {"Healthcheck": {"Test": ["CMD-SHELL", "a"]}}),
        ({"Other": 1}, ["RUN a", "COPY a b", "ADD a b", "ARG a"], {"Other": 1}),
    ],
)  # fmt: skip
def test_config(before: dict[str, Any], lines: list[str], after: dict[str, Any]) -> None:
    assert applied(before, *lines) == after


def test_every_stage_has_a_path() -> None:
    assert base_env(["A=b"]) == ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "A=b"]
    assert base_env(["A=b", "PATH=/x"]) == ["A=b", "PATH=/x"]


def test_maintainer_is_the_author() -> None:
    document: dict[str, Any] = {}
    apply_to_document(document, parse_instruction("MAINTAINER me <a@b>", where="x"))
    assert document == {"author": "me <a@b>"}


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("run  a  \\\n b", "RUN |1 A=1 /bin/sh -c a   b"),
        ('RUN ["a", "b"]', "RUN |1 A=1 a b"),
        ("RUN --mount=target=/x a", "RUN --mount=type=bind,target=/x |1 A=1 /bin/sh -c a"),
        ("COPY --from=s --chown=u --chmod=755 --link a b c/", "COPY --from=s --chown=u --chmod=755 a b c/"),
        ("COPY <<E /x\nsecret\nE", "COPY <<E /x"),
        ("ADD a b", "ADD a b"),
        ('CMD ["a", "b\\"c"]', 'CMD ["a" "b\\"c"]'),
        ("ENTRYPOINT a", 'ENTRYPOINT ["/bin/sh" "-c" "a"]'),
        ("ENV A=b C='d e'", "ENV A=b C=d e"),
        ("LABEL a=b", "LABEL a=b"),
        ("ARG A=1 B", "ARG A=1 B"),
        ("EXPOSE 80 53/udp", "EXPOSE 80 53/udp"),
        ("VOLUME /a /b", 'VOLUME ["/a" "/b"]'),
        ("USER u", "USER u"),
        ("WORKDIR w", "WORKDIR w"),
        ("STOPSIGNAL SIGINT", "STOPSIGNAL SIGINT"),
        ('SHELL ["a", "b"]', 'SHELL ["a" "b"]'),
        ("HEALTHCHECK NONE", "HEALTHCHECK NONE"),
        ('HEALTHCHECK CMD ["a"]', 'HEALTHCHECK CMD ["a"]'),
        ("ONBUILD RUN a", "ONBUILD RUN a"),
        ("MAINTAINER m", "MAINTAINER m"),
    ],
)
def test_history(line: str, text: str) -> None:
    node = Scope().expand(parse_instruction(line, where="x"))
    assert created_by(node, args={"A": "1"}) == text


def test_history_has_an_end() -> None:
    node = parse_instruction("RUN " + "a" * 100_000, where="x")
    assert len(created_by(node)) == 16 * 1024
