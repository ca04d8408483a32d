"""The root command: its table, its errors and their exit codes, and what a start imports."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import click
import pytest

from wherry.cli import root
from wherry.core.errors import NoSpace, NotFound, WherryError, all_errors

_WORDS = [(word, *entry) for section in root.COMMANDS.values() for word, entry in section.items()]


def wherry(*args: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "wherry", *args],
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
        check=False,
    )


def test_no_word_has_two_meanings() -> None:
    words = [word for word, *_ in _WORDS]
    assert len(words) == len(set(words))


@pytest.mark.parametrize(("word", "module", "attribute", "text"), _WORDS, ids=[word for word, *_ in _WORDS])
def test_every_command_loads_and_has_help_with_an_example(word: str, module: str, attribute: str, text: str) -> None:
    command = getattr(import_module(f"wherry.cli.{module}"), attribute)
    assert isinstance(command, click.Command)
    help_text = command.get_help(click.Context(command, info_name=word))
    assert "xample" in help_text, "--help shows an example"
    assert text.endswith(".")


def _leaves(command: click.Command, path: tuple[str, ...]) -> list[tuple[tuple[str, ...], click.Command]]:
    if not isinstance(command, click.Group):
        return [(path, command)]
    context = click.Context(command)
    found: list[tuple[tuple[str, ...], click.Command]] = []
    for word in command.list_commands(context):
        sub = command.get_command(context, word)
        assert sub is not None
        found.extend(_leaves(sub, (*path, word)))
    return found


def test_everything_that_lists_speaks_json() -> None:
    listing = {
        "ls",
        "list",
        "ps",
        "log",
        "history",
        "devices",
        "revisions",
        "status",
        "refs",
        "inspect",
        "doctor",
        "diff",
    }
    missing = []
    for path, command in _leaves(root.cli, ()):
        options = {option for parameter in command.params for option in parameter.opts}
        if path[-1] in listing and path[0] != "inspect" and path[-1] != "inspect" and "--json" not in options:
            missing.append(" ".join(path))
    assert missing == []


def test_version_and_help_import_little() -> None:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "wherry", "--version"], capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("wherry ")
    assert "click" not in done.stderr
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "wherry", "--help"], capture_output=True, text=True, check=True
    )
    for heavy in ("urllib3", "yaml", "cryptography", "rich", "asyncio", "wherry.store", "wherry.hub"):
        assert f" {heavy}" not in done.stderr, heavy


def test_a_typo_gets_a_guess() -> None:
    done = wherry("comit")
    assert done.returncode == 2
    assert "Did you mean 'commit'?" in done.stderr


@pytest.mark.parametrize("error", all_errors())
def test_errors_become_exit_codes_and_one_line(
    error: type[WherryError], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(**kwargs: object) -> None:
        arguments = {"status": 500} if error.__name__ == "HttpError" else {}
        raise error("it broke", where="/there", hint="mend it", **arguments)

    monkeypatch.setattr(root.cli, "main", fail)
    assert root.run(["status"]) == error.exit_code
    assert capsys.readouterr().err == "wherry: it broke: /there; mend it\n"


def test_debug_shows_the_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(**kwargs: object) -> None:
        raise NotFound("gone")

    monkeypatch.setattr(root.cli, "main", fail)
    with pytest.raises(NotFound):
        root.run(["--debug", "status"])


def test_interrupt(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupt(**kwargs: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(root.cli, "main", interrupt)
    assert root.run(["status"]) == 130
    assert capsys.readouterr().err == "wherry: interrupted\n"


def test_output_to_a_closed_pipe() -> None:
    done = subprocess.run(
        f"{sys.executable} -m wherry completion bash | true", shell=True, capture_output=True, text=True, check=False
    )
    assert done.stderr == ""


def test_a_full_disk_is_an_error_for_the_output_too() -> None:
    done = subprocess.run(
        f"{sys.executable} -m wherry doctor --json > /dev/full", shell=True, capture_output=True, text=True, check=False
    )
    assert done.returncode == NoSpace.exit_code
    assert done.stderr.count("\n") == 1
    assert "no space" in done.stderr


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_script(shell: str) -> None:
    done = wherry("completion", shell)
    assert done.returncode == 0
    assert "_WHERRY_COMPLETE" in done.stdout


@pytest.mark.parametrize(
    "words",
    [
        ["run"],
        ["run", "--bad", "image"],
        ["run", "--memory"],
        ["run", "-p", "x", "image"],
        ["run", "--cpus", "many", "image"],
        ["run", "--gpus", "all", "image"],
        ["run", "--pull", "always", "image"],
        ["create", "--bad", "image"],
        ["container", "create", "-v", "a:b:c:d", "image"],
        ["exec", "c"],
        ["exec", "--bad", "c", "true"],
        ["exec", "--env-file", "/not/there", "c", "true"],
    ],
    ids=" ".join,
)
def test_a_wrong_line_of_what_starts_containers_is_125(tmp_path: Path, words: list[str]) -> None:
    done = wherry("--root", str(tmp_path / "root"), "--run-root", str(tmp_path / "run"), *words)
    assert done.returncode == 125, done
    assert done.stderr
    assert "Traceback" not in done.stderr


def test_a_wrong_line_of_the_others_is_2(tmp_path: Path) -> None:
    for words in (["ps", "--bad"], ["--bad", "run"], ["rm"]):
        assert wherry("--root", str(tmp_path / "root"), "--run-root", str(tmp_path / "run"), *words).returncode == 2


def test_completion_answers() -> None:
    done = wherry(_WHERRY_COMPLETE="bash_complete", COMP_WORDS="wherry sto", COMP_CWORD="1")
    assert done.stdout.split() == ["plain,stop", "plain,store"]


def test_trace_points_are_checked() -> None:
    done = wherry("doctor", "--json", WHERRY_TRACE="point=explode")
    assert done.returncode == 2
    assert "explode" in done.stderr


def test_doctor_json(tmp_path: Path) -> None:
    done = wherry("--root", str(tmp_path / "not/yet"), "doctor", "--json")
    findings = json.loads(done.stdout)
    assert {finding["group"] for finding in findings} == {"kernel", "permissions", "machine", "tools"}
    for finding in findings:
        if not finding["ok"]:
            assert finding["cost"]
            assert finding["remedy"]
    needed = [finding for finding in findings if not finding["ok"] and finding.get("needed", True)]
    assert done.returncode == (11 if needed else 0)
