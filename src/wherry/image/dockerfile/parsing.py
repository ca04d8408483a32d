"""A whole Dockerfile, or one instruction of a config's ``OnBuild`` or a ``--change``, from text to values.

Refused: instructions before the first FROM other than ARG, a file without any, and files beyond the limits.

Source: Dockerfile reference, "Format", "FROM".
"""

from __future__ import annotations

from collections import Counter

from wherry.core.errors import InvalidInput
from wherry.image.dockerfile.instructions import read_instruction
from wherry.image.dockerfile.lines import decode, read_directives, read_lines
from wherry.image.dockerfile.problems import Place
from wherry.image.dockerfile.syntax import (
    KEYWORDS,
    Arg,
    Cmd,
    Directives,
    Dockerfile,
    Entrypoint,
    From,
    Healthcheck,
    Instruction,
    Note,
    Stage,
)

MAX_INSTRUCTIONS = 20_000
MAX_STAGES = 1000


def parse_dockerfile(data: bytes, *, where: str = "Dockerfile") -> Dockerfile:
    """Reads a Dockerfile.

    Args:
        data: the bytes of the file.
        where: its name, for errors.

    Raises:
        InvalidInput: it is malformed; points at ``file:line``.
    """
    lines = decode(data, where)
    directives = read_directives(lines, where)
    notes: list[Note] = []
    found: list[Instruction] = []
    for line in read_lines(lines, directives, where, notes):
        if len(found) == MAX_INSTRUCTIONS:
            raise Place(where=where, line=line.first_line).error(f"more than {MAX_INSTRUCTIONS} instructions")
        found.append(read_instruction(line, where, directives.escape, notes))
    if not found:
        raise InvalidInput("no instruction in the Dockerfile", where=where, hint="it begins with FROM IMAGE")
    global_args, stages = _stages(found, where)
    _casing(found, notes)
    for stage in stages:
        _only_once(stage, notes)
    _unique_names(stages, notes)
    return Dockerfile(
        directives=directives,
        global_args=global_args,
        stages=stages,
        notes=_told(notes, directives, where),
        where=where,
    )


def parse_instruction(text: str, *, where: str, notes: list[Note] | None = None) -> Instruction:
    """Reads one instruction that stands by itself, with heredocs behind it if it has any.

    Args:
        text: such as ``CMD ["nginx"]``, or an element of a config's ``OnBuild``.
        where: what it is part of, for errors.
        notes: notes are added to it.

    Raises:
        InvalidInput: it is malformed, or more than one.
    """
    told: list[Note] = [] if notes is None else notes
    lines = decode(text.encode("utf-8", "surrogatepass"), where)
    found = list(read_lines(lines, Directives(), where, told))
    if len(found) != 1:
        got = f"{len(found)} instructions" if found else "none"
        raise InvalidInput(f"one instruction expected, got {got}", where=where)
    return read_instruction(found[0], where, Directives().escape, told)


def _stages(found: list[Instruction], where: str) -> tuple[tuple[Arg, ...], tuple[Stage, ...]]:
    global_args: list[Arg] = []
    stages: list[tuple[From, list[Instruction]]] = []
    for node in found:
        if isinstance(node, From):
            if len(stages) == MAX_STAGES:
                raise Place(where=where, line=node.first_line).error(f"more than {MAX_STAGES} stages")
            stages.append((node, []))
        elif stages:
            stages[-1][1].append(node)
        elif isinstance(node, Arg):
            global_args.append(node)
        else:
            raise Place(where=where, line=node.first_line, text=node.text).error(
                f"{KEYWORDS[type(node)]} before the first FROM", "only ARG may stand before FROM IMAGE"
            )
    if not stages:
        raise InvalidInput("no FROM in the Dockerfile", where=where, hint="add FROM IMAGE, or FROM scratch")
    return tuple(global_args), tuple(
        Stage(index=index, base=base, instructions=tuple(body)) for index, (base, body) in enumerate(stages)
    )


def _casing(found: list[Instruction], notes: list[Note]) -> None:
    words = [(node.text[: len(KEYWORDS[type(node)])], node.first_line) for node in found]
    lower = sum(word.islower() for word, _ in words)
    expected = str.lower if lower * 2 > len(words) else str.upper
    for word, line in words:
        if word != expected(word):
            notes.append(
                Note(rule="ConsistentInstructionCasing", text=f"{word} is not written as the others are", line=line)
            )


def _only_once(stage: Stage, notes: list[Note]) -> None:
    for cls in (Cmd, Entrypoint, Healthcheck):
        same = [node for node in stage.instructions if isinstance(node, cls)]
        for node in same[:-1]:
            text = f"{KEYWORDS[cls]} is given more than once in a stage; only the last counts"
            notes.append(Note(rule="MultipleInstructionsDisallowed", text=text, line=node.first_line))


def _unique_names(stages: tuple[Stage, ...], notes: list[Note]) -> None:
    counted = Counter(stage.base.stage_name for stage in stages if stage.base.stage_name)
    for stage in stages:
        name = stage.base.stage_name
        if counted[name] > 1:
            counted[name] = 0
            notes.append(
                Note(rule="DuplicateStageName", text=f"two stages are called {name}", line=stage.base.first_line)
            )


def _told(notes: list[Note], directives: Directives, where: str) -> tuple[Note, ...]:
    """Returns the notes that ``# check=`` does not skip, by line.

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
