"""``wherry store config``: one key of a repository's config, got, set or unset."""

from __future__ import annotations

import click

from wherry.cli.store import open_repo, repo_option
from wherry.core.errors import NotFound, UsageError

_ARGUMENTS = {"get": 1, "set": 2, "unset": 1}


@click.command(
    epilog="""\b
Examples:
  wherry store config --repo=repo get core.mode
  wherry store config --repo=repo set core.min-free-space-size 500MB
  wherry store config --repo=repo set --group='remote "origin"' url https://example.org/repo
  wherry store config --repo=repo -- set core.lock-timeout-secs -1"""
)
@repo_option
@click.option("--group", metavar="NAME", help="The section; without it KEY is SECTION.KEY.")
@click.argument("words", nargs=-1, metavar="get KEY | set KEY VALUE | unset KEY")
def config(repo_path: str | None, group: str | None, words: tuple[str, ...]) -> None:
    """Get, set or unset a key of the config."""
    if not words:
        raise UsageError("OPERATION must be specified", hint="get KEY, set KEY VALUE or unset KEY")
    operation, *arguments = words
    count = _ARGUMENTS.get(operation)
    if count is None:
        raise UsageError(f"Unknown operation {operation}", hint="get KEY, set KEY VALUE or unset KEY")
    if len(arguments) > count:
        raise UsageError("Too many arguments given")
    if len(arguments) < count:
        raise UsageError("KEY and VALUE must be specified" if count == 2 else "KEY must be specified")
    section, key = _split(group, arguments[0])
    repo = open_repo(repo_path)
    if operation == "get":
        if section not in repo.config.sections():
            raise NotFound(f"Key file does not have group “{section}”", where=repo.path / "config")
        if key not in repo.config.keys(section):
            raise NotFound(f"Key file does not have key “{key}” in group “{section}”", where=repo.path / "config")
        print(repo.config.get_string(section, key))
        return
    if operation == "set":
        repo.config.set_string(section, key, arguments[1])
    elif key not in repo.config.keys(section):
        return
    else:
        repo.config.unset(section, key)
    repo.save_config()


def _split(group: str | None, text: str) -> tuple[str, str]:
    if group is not None:
        return group, text
    section, dot, key = text.partition(".")
    if not dot or not section or not key:
        raise UsageError(f'Key must be of the form "sectionname.keyname": {text!r}', hint="or name it with --group")
    return section, key
