"""``--change`` does to a config what docker does."""

from __future__ import annotations

from typing import Any

import pytest

from wherry.core.errors import InvalidInput
from wherry.image.changes import apply_changes


@pytest.mark.parametrize(
    ("changes", "result"),
    [
        (['CMD ["a", "b c"]'], {"Cmd": ["a", "b c"]}),
        (["cmd echo $HOME"], {"Cmd": ["/bin/sh", "-c", "echo $HOME"]}),
        (["CMD a", 'ENTRYPOINT ["/init"]'], {"Cmd": ["/bin/sh", "-c", "a"], "Entrypoint": ["/init"]}),
        (['ENTRYPOINT ["/init"]'], {"Cmd": None, "Entrypoint": ["/init"]}),
        (["CMD ['a']"], {"Cmd": ["/bin/sh", "-c", "['a']"]}),
        (['SHELL ["/bin/bash", "-c"]', "CMD a"], {"Shell": ["/bin/bash", "-c"], "Cmd": ["/bin/bash", "-c", "a"]}),
        (["ENV A=b", "ENV C=$A.${D:-e}"], {"Env": ["A=b", "C=b.e"]}),
        (["HEALTHCHECK --interval=5s CMD a"], {"Healthcheck": {"Test": ["CMD-SHELL", "a"], "Interval": 5 * 10**9}}),
        (["HEALTHCHECK NONE"], {"Healthcheck": {"Test": ["NONE"]}}),
        (["ONBUILD RUN a"], {"OnBuild": ["RUN a"]}),
        (["ENV A=b C='d e'", "ENV A=x"], {"Env": ["A=x", "C=d e"]}),
        (["ENV A b c"], {"Env": ["A=b c"]}),
        (["WORKDIR /a", "WORKDIR b"], {"WorkingDir": "/a/b"}),
        (["WORKDIR b"], {"WorkingDir": "/b"}),
        (["USER 1000:50"], {"User": "1000:50"}),
        (["EXPOSE 80 53/udp 7-8/TCP"], {"ExposedPorts": {"80/tcp": {}, "53/udp": {}, "7/tcp": {}, "8/tcp": {}}}),
        (['VOLUME ["/a"]', "VOLUME /b /c"], {"Volumes": {"/a": {}, "/b": {}, "/c": {}}}),
        (["LABEL a=b", 'LABEL c="d e"'], {"Labels": {"a": "b", "c": "d e"}}),
        (["STOPSIGNAL SIGINT"], {"StopSignal": "SIGINT"}),
    ],
)
def test_applied(changes: list[str], result: dict[str, Any]) -> None:
    assert apply_changes({}, changes) == result


@pytest.mark.parametrize(
    "change",
    [
        "RUN x",
        "CMD",
        "CMD [1]",
        "COPY a b",
        "FROM a",
        "ARG A",
        "STOPSIGNAL SIGNONE",
        "ENV A",
        "ENV A='",
        "EXPOSE x",
        "EXPOSE 0",
        "EXPOSE 9-8",
        "VOLUME [1]",
        "",
    ],
)
def test_refused(change: str) -> None:
    with pytest.raises(InvalidInput):
        apply_changes({}, [change])


def test_the_argument_is_not_changed() -> None:
    config = {"Env": ["A=b"], "Labels": {"a": "b"}}
    apply_changes(config, ["ENV A=c", "LABEL a=c"])
    assert config == {"Env": ["A=b"], "Labels": {"a": "b"}}
