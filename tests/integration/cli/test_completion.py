"""Completion in the real shells."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

_ENV = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}


def _shell(*args: str) -> str:
    done = subprocess.run(list(args), capture_output=True, text=True, env=_ENV, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_bash() -> None:
    script = (
        'eval "$(wherry completion bash)"; COMP_WORDS=(wherry device s); COMP_CWORD=2;'
        "_wherry_completion wherry; echo ${COMPREPLY[@]}"
    )
    assert _shell("bash", "-c", script).split() == ["status"]


def test_fish() -> None:
    words = _shell("fish", "--no-config", "-c", 'wherry completion fish | source; complete -C "wherry device s"')
    assert [line.split("\t")[0] for line in words.splitlines()] == ["status"]


def test_zsh() -> None:
    script = (
        "autoload -U compinit; compinit -u -D; source <(wherry completion zsh); print ${_comps[wherry]};"
        "COMP_WORDS='wherry device s' COMP_CWORD=2 _WHERRY_COMPLETE=zsh_complete wherry"
    )
    lines = _shell("zsh", "-f", "-c", script).splitlines()
    assert lines[:3] == ["_wherry_completion", "plain", "status"]
