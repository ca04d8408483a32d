"""A whole Dockerfile, or one instruction of a config's ``OnBuild`` or a ``--change``, from text to values.

Refused: instructions before the first FROM other than ARG, a file without any, and files beyond the limits.

Source: Dockerfile reference, "Format", "FROM".
"""

from __future__ import annotations

from wherry.core.errors import InvalidInput
from wherry.image.dockerfile.instructions import read_instruction
from wherry.image.dockerfile.lines import decode, read_directives, read_lines
from wherry.image.dockerfile.lint import lint, tell
from wherry.image.dockerfile.problems import Place
from wherry.image.dockerfile.syntax import (
    KEYWORDS,
    Arg,
    Directives,
    Dockerfile,
    From,
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
    notes += lint(found, stages)
    return Dockerfile(
        directives=directives,
        global_args=global_args,
        stages=stages,
        notes=tell(notes, directives, where),
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
