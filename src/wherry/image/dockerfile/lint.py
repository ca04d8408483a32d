"""What works in a Dockerfile and should not be written so: docker's build checks that need no build.

Notes that one instruction gives by itself are made where it is read (`instructions`), those of variables where these
are replaced (`expansion`), and CopyIgnoredFile where files are copied. Not given: InvalidDefaultArgInFrom and
InvalidDefinitionDescription.

Source: docs.docker.com/reference/build-checks.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from wherry.image.dockerfile.problems import Place
from wherry.image.dockerfile.syntax import (
    KEYWORDS,
    Arg,
    Cmd,
    Directives,
    Entrypoint,
    Env,
    Healthcheck,
    Instruction,
    Note,
    Stage,
    Workdir,
)

_SECRET_WORDS = frozenset(
    {"apikey", "auth", "credential", "credentials", "key", "password", "pword", "passwd", "secret", "token"}
)
_PUBLIC_WORDS = frozenset({"public"})


def lint(found: Sequence[Instruction], stages: Sequence[Stage]) -> Iterator[Note]:
    """Yields the notes about a whole file.

    Args:
        found: all its instructions.
        stages: its stages.
    """
    yield from _casing(found)
    yield from _unique_names(stages)
    for stage in stages:
        yield from _only_once(stage)
        yield from _secrets(stage)
        yield from _first_workdir(stage)


def tell(notes: Iterable[Note], directives: Directives, where: str) -> tuple[Note, ...]:
    """Returns the notes that ``# check=`` does not skip, by line; those of `expansion.GlobalArgs` go through it, too.

    Raises:
        InvalidInput: there is one, and ``# check=error=true`` says that it is an error.
    """
    if "all" in directives.skip_checks:
        return ()
    told = sorted((note for note in notes if note.rule not in directives.skip_checks), key=lambda note: note.line)
    if told and directives.check_error:
        raise Place(where=where, line=told[0].line).error(
            f"{told[0].rule}: {told[0].text}", "# check=error=true makes it an error"
        )
    return tuple(told)


def _casing(found: Sequence[Instruction]) -> Iterator[Note]:
    words = [(node.text[: len(KEYWORDS[type(node)])], node.first_line) for node in found]
    lower = sum(word.islower() for word, _ in words)
    expected = str.lower if lower * 2 > len(words) else str.upper
    for word, line in words:
        if word != expected(word):
            yield Note(rule="ConsistentInstructionCasing", text=f"{word} is not written as the others are", line=line)


def _only_once(stage: Stage) -> Iterator[Note]:
    for cls in (Cmd, Entrypoint, Healthcheck):
        same = [node for node in stage.instructions if isinstance(node, cls)]
        for node in same[:-1]:
            text = f"{KEYWORDS[cls]} is given more than once in a stage; only the last counts"
            yield Note(rule="MultipleInstructionsDisallowed", text=text, line=node.first_line)


def _unique_names(stages: Sequence[Stage]) -> Iterator[Note]:
    counted = Counter(stage.base.stage_name for stage in stages if stage.base.stage_name)
    for stage in stages:
        name = stage.base.stage_name
        if counted[name] > 1:
            counted[name] = 0
            yield Note(rule="DuplicateStageName", text=f"two stages are called {name}", line=stage.base.first_line)


def _secrets(stage: Stage) -> Iterator[Note]:
    for node in stage.instructions:
        for name in (pair[0] for pair in node.pairs) if isinstance(node, Arg | Env) else ():
            words = set(name.lower().split("_"))
            if words & _SECRET_WORDS and not words & _PUBLIC_WORDS:
                text = f"{KEYWORDS[type(node)]} {name}: secrets are seen in the image; use RUN --mount=type=secret"
                yield Note(rule="SecretsUsedInArgOrEnv", text=text, line=node.first_line)


def _first_workdir(stage: Stage) -> Iterator[Note]:
    node = next((node for node in stage.instructions if isinstance(node, Workdir)), None)
    if node is not None and node.path[:1] not in ("/", "$", '"', "'"):
        text = f"WORKDIR {node.path[:60]}: stands on what the base has; write the whole path"
        yield Note(rule="WorkdirRelativePath", text=text, line=node.first_line)
