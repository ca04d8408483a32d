"""Which stages a build needs, in which order, and where each name in them leads.

A name after FROM, ``COPY --from`` or ``RUN --mount=...,from=`` is, in this order: a named build context of the caller,
a stage above, an image. ``COPY --from=2`` is a stage's number. What the target does not need is not built.

Refused: a ``--from`` that names its own stage or one below (docker would follow it, and so may run in circles), numbers
without a stage, malformed platforms and names of images.

The triggers of a base image are in its config, which only the caller can fetch. So there are two rounds: plan, read
the configs of ``plan.images``, and plan again with their ``OnBuild``. The triggers of a base that is a stage are known
at once. ::

    plan = plan_build(file, globals, target="app")
    plan = plan_build(file, globals, target="app", triggers={0: config["OnBuild"]})

Source: Dockerfile reference, "FROM", "COPY --from", "ONBUILD"; docs.docker.com/build/building/multi-stage.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeAlias

from wherry.core.errors import InvalidInput, NotFound
from wherry.image.dockerfile.expansion import GlobalArgs
from wherry.image.dockerfile.parsing import MAX_INSTRUCTIONS, parse_instruction
from wherry.image.dockerfile.problems import Place, nearest
from wherry.image.dockerfile.syntax import Add, Copy, Dockerfile, From, Instruction, Onbuild, Run, Stage
from wherry.image.platforms import Platform
from wherry.image.reference import Reference

SCRATCH = "scratch"
_FORBIDDEN_TRIGGERS = ("FROM", "MAINTAINER", "ONBUILD")


@dataclass(frozen=True, slots=True, kw_only=True)
class StageOrigin:
    """A stage of the same file."""

    index: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageOrigin:
    """An image, to be found or pulled."""

    reference: Reference
    platform: Platform | None = None
    """What FROM asks for; None is the platform that is built for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ContextOrigin:
    """A build context that the caller gives under a name."""

    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ScratchOrigin:
    """Nothing at all."""


Origin: TypeAlias = StageOrigin | ImageOrigin | ContextOrigin | ScratchOrigin


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedStage:
    """One stage that is built."""

    stage: Stage
    base: From
    """With its variables replaced."""
    origin: Origin
    """What it stands on."""
    platform: Platform | None
    """What FROM asks for, or the stage below; None is the platform that is built for."""
    instructions: tuple[Instruction, ...]
    """The triggers of the base, then the stage's own; not expanded yet."""
    sources: Mapping[str, Origin] = field(default_factory=dict)
    """Where the names after ``from`` lead."""
    needs: tuple[int, ...] = ()
    """The stages that are built before it."""

    @property
    def index(self) -> int:
        """Its number in the file."""
        return self.stage.index

    @property
    def name(self) -> str:
        """Its name, else its number."""
        return self.stage.name


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildPlan:
    """What a build does."""

    stages: tuple[PlannedStage, ...]
    """In the order in which they are built; the last is the target."""
    global_args: GlobalArgs

    @property
    def target(self) -> PlannedStage:
        """The stage whose image is wanted."""
        return self.stages[-1]

    @property
    def bases(self) -> Mapping[int, ImageOrigin]:
        """The images that stages stand on, by the stages' numbers."""
        return {item.index: item.origin for item in self.stages if isinstance(item.origin, ImageOrigin)}

    @property
    def images(self) -> tuple[ImageOrigin, ...]:
        """Every image that the build needs, each once."""
        found = [origin for item in self.stages for origin in (item.origin, *item.sources.values())]
        return tuple(dict.fromkeys(origin for origin in found if isinstance(origin, ImageOrigin)))

    @property
    def needs_context(self) -> bool:
        """Whether anything is read from the build context."""
        return any(_reads_context(node) for item in self.stages for node in item.instructions)


def plan_build(
    dockerfile: Dockerfile,
    global_args: GlobalArgs,
    *,
    target: str = "",
    contexts: frozenset[str] = frozenset(),
    triggers: Mapping[int, Sequence[str]] | None = None,
) -> BuildPlan:
    """Returns the plan of a build.

    Args:
        dockerfile: the file.
        global_args: what FROM sees.
        target: a stage's name or number; "" is the last.
        contexts: the names of the caller's named contexts.
        triggers: the ``OnBuild`` of the images that stages stand on, by the stages' numbers.

    Raises:
        NotFound: there is no such target.
        InvalidInput: a name leads nowhere, or a trigger is malformed; points at the line.
    """
    planner = _Planner(dockerfile, global_args, contexts, triggers or {})
    wanted = _target(dockerfile, target)
    planned: dict[int, PlannedStage] = {}
    pending = [wanted]
    while pending:
        index = pending.pop()
        if index not in planned:
            planned[index] = planner.stage(dockerfile.stages[index])
            pending += planned[index].needs
    # Every need points upwards, so that the file's own order is one in which it can be built.
    return BuildPlan(stages=tuple(planned[index] for index in sorted(planned)), global_args=global_args)


def read_triggers(expressions: Sequence[str], base: From, where: str) -> tuple[Instruction, ...]:
    """Returns the triggers of a base as instructions that stand in the line of its FROM.

    Raises:
        InvalidInput: one is malformed, or what no trigger may be.
    """
    if len(expressions) > MAX_INSTRUCTIONS:
        raise Place(where=where, line=base.first_line).error(f"{base.image} has more than {MAX_INSTRUCTIONS} triggers")
    found: list[Instruction] = []
    for text in expressions:
        place = Place(where=where, line=base.first_line, text=base.text)
        try:
            node = parse_instruction(text, where="ONBUILD")
        except InvalidInput as error:
            raise place.error(f"a trigger of {base.image} is malformed: {error.what}", error.hint) from error
        if type(node).__name__.upper() in _FORBIDDEN_TRIGGERS:
            raise place.error(f"a trigger of {base.image} is {type(node).__name__.upper()}, which is not allowed")
        found.append(replace(node, first_line=base.first_line, last_line=base.last_line))
    return tuple(found)


def _target(dockerfile: Dockerfile, target: str) -> int:
    stages = dockerfile.stages
    if not target:
        return len(stages) - 1
    for stage in reversed(stages):
        if stage.base.stage_name == target.lower():
            return stage.index
    number = _number(target)
    if number is not None and number < len(stages):
        return number
    names = [stage.name for stage in stages]
    raise NotFound(
        f"no stage {target[:60]!r}",
        where=dockerfile.where,
        hint=nearest(target.lower(), names) or f"stages are {' '.join(names)[:200]}",
    )


def _number(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 9 else None


class _Planner:
    """Finds out where names lead."""

    def __init__(
        self,
        dockerfile: Dockerfile,
        global_args: GlobalArgs,
        contexts: frozenset[str],
        triggers: Mapping[int, Sequence[str]],
    ) -> None:
        self._file = dockerfile
        self._globals = global_args
        self._contexts = contexts
        self._triggers = triggers
        self._platforms: dict[int, Platform | None] = {}
        self._bases = [global_args.expand_from(stage.base) for stage in dockerfile.stages]

    def _place(self, node: Instruction) -> Place:
        return Place(where=self._file.where, line=node.first_line, text=node.text)

    def stage(self, stage: Stage) -> PlannedStage:
        base = self._bases[stage.index]
        origin = self._origin(stage.index)
        triggers: Sequence[str] = self._triggers.get(stage.index, ())
        if isinstance(origin, StageOrigin):
            below = self._file.stages[origin.index].instructions
            triggers = [node.expression for node in below if isinstance(node, Onbuild)]
        instructions = (*read_triggers(triggers, base, self._file.where), *stage.instructions)
        sources: dict[str, Origin] = {}
        for node in instructions:
            for name in _from_names(node):
                if name not in sources:
                    sources[name] = self._source(name, stage.index, node)
        needs = {item.index for item in (origin, *sources.values()) if isinstance(item, StageOrigin)}
        return PlannedStage(
            stage=stage,
            base=base,
            origin=origin,
            platform=self._platform(stage.index),
            instructions=instructions,
            sources=sources,
            needs=tuple(sorted(needs)),
        )

    def _origin(self, index: int) -> Origin:
        base = self._bases[index]
        if base.image in self._contexts:
            return ContextOrigin(name=base.image)
        if base.image == SCRATCH:
            return ScratchOrigin()
        found = self._stage_above(base.image, index)
        if found is not None:
            return StageOrigin(index=found)
        return self._image(base.image, base, self._asked(index))

    def _platform(self, index: int) -> Platform | None:
        """Returns what a stage is for: what its FROM says, else what the stages below it say."""
        while True:
            asked = self._asked(index)
            below = self._stage_above(self._bases[index].image, index)
            if asked is not None or below is None or self._bases[index].image in self._contexts:
                return asked
            index = below

    def _asked(self, index: int) -> Platform | None:
        base = self._bases[index]
        if not base.platform:
            return None
        try:
            return Platform.parse(base.platform)
        except InvalidInput as error:
            raise self._place(base).error(f"FROM: {error.what}", error.hint) from error

    def _stage_above(self, name: str, index: int) -> int | None:
        for stage in reversed(self._file.stages[:index]):
            if stage.base.stage_name and stage.base.stage_name == name.lower():
                return stage.index
        return None

    def _source(self, name: str, index: int, node: Instruction) -> Origin:
        if name in self._contexts:
            return ContextOrigin(name=name)
        found = self._stage_above(name, index)
        if found is not None:
            return StageOrigin(index=found)
        place = self._place(node)
        number = _number(name)
        if number is not None:
            if number >= len(self._file.stages):
                raise place.error(f"from: no stage {number}", f"there are {len(self._file.stages)}, counted from 0")
            if number >= index:
                raise self._not_above(f"stage {number}", number, index, place)
            return StageOrigin(index=number)
        for stage in self._file.stages[index:]:
            if stage.base.stage_name == name.lower():
                raise self._not_above(f"the stage {name[:60]}", stage.index, index, place)
        if name == SCRATCH:
            return ScratchOrigin()
        return self._image(name, node, None)

    def _not_above(self, what: str, other: int, index: int, place: Place) -> InvalidInput:
        if other == index:
            return place.error(f"from: {what} is this stage itself", "name a stage above it")
        line = self._file.stages[other].base.first_line
        return place.error(f"from: {what} is built later, at line {line}", "move that stage above this one")

    def _image(self, name: str, node: Instruction, platform: Platform | None) -> ImageOrigin:
        try:
            return ImageOrigin(reference=Reference.parse(name), platform=platform)
        except InvalidInput as error:
            names = [stage.base.stage_name for stage in self._file.stages if stage.base.stage_name]
            raise self._place(node).error(error.what, nearest(name, names) or error.hint) from error


def _from_names(node: Instruction) -> Iterator[str]:
    if isinstance(node, Copy) and node.from_:
        yield node.from_
    elif isinstance(node, Run):
        yield from (flag.source_name for flag in node.mounts if flag.source_name)


def _reads_context(node: Instruction) -> bool:
    if isinstance(node, Run):
        return any(flag.type == "bind" and not flag.source_name for flag in node.mounts)
    if isinstance(node, Copy | Add) and not (isinstance(node, Copy) and node.from_):
        return any(isinstance(source, str) and "://" not in source for source in node.sources)
    return False
