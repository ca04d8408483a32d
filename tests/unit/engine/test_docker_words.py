"""Docker's words that flags and Compose files share."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import pytest

from wherry.core.errors import InvalidInput
from wherry.engine import words
from wherry.engine.spec import LogLimits
from wherry.spec.container import Mount, MountType, RestartName, RestartPolicy


def test_what_they_mean() -> None:
    assert words.tmpfs("/t:size=1m,mode=1755,ro,uid=5") == Mount(
        type=MountType.TMPFS,
        target="/t",
        read_only=True,
        tmpfs_size_bytes=1 << 20,
        tmpfs_mode=0o1755,
        tmpfs_options=("uid=5",),
    )
    assert words.log_limits("json-file", [("max-size", "1m"), ("max-file", "2")]) == LogLimits(
        max_bytes=1 << 20, files=2
    )
    assert words.log_limits("none", ()).driver == "none"
    assert words.restart("on-failure:3") == RestartPolicy(name=RestartName.ON_FAILURE, max_retries=3)
    assert words.restart("no") == RestartPolicy()
    assert words.device_rule("c 1:* r").minor is None
    assert words.mode("0") == 0


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (lambda: words.tmpfs("/t:mode=9"), "not a mode: '9'"),
        (lambda: words.tmpfs("/t:mode="), "not a mode: ''"),
        (lambda: words.mode("17777"), "not a mode"),
        (lambda: words.tmpfs("/t:size=x"), "not a size: 'x'"),
        (lambda: words.tmpfs("/t:colour=red"), "the option 'colour' of a tmpfs is not supported"),
        (lambda: words.log_limits("syslog", ()), "the log driver 'syslog' is not there; use json-file or none"),
        (lambda: words.log_limits("paper", ()), "there is no log driver 'paper'"),
        (lambda: words.log_limits("none", [("max-file", "2")]), "keeps nothing"),
        (lambda: words.log_limits("json-file", [("max-file", "x")]), "'max-file=x' is not supported"),
        (lambda: words.restart("no:1"), "only on-failure takes a number"),
        (lambda: words.restart("on-failure:²"), "only on-failure takes a number"),
        (lambda: words.restart("sometimes"), "no restart policy 'sometimes'"),
        (lambda: words.device_rule("c 1 rwm"), "not a rule of devices"),
        (lambda: words.security(["label=type:x"]), "label=disable is"),
    ],
)
def test_what_they_do_not_mean(wrong: Callable[[], object], says: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        wrong()
    assert says in str(caught.value)


def test_a_container_without_them_is_read_without_this_module() -> None:
    code = (
        "import sys; from wherry.cli import container_spec, container_flags;"
        "given = {**container_flags.defaults(), 'image': 'i', 'command': ('true',), 'network': ('none',)};"
        "container_spec.build(given, {}, cwd='/'); print('wherry.engine.words' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
