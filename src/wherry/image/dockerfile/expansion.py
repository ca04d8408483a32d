"""Which variables an instruction sees, and the instruction with their values.

A `Scope` walks a stage from top to bottom: `Scope.expand` returns an instruction with its variables replaced and, for
ARG and ENV, remembers what they set for the next ones. ::

    globals = GlobalArgs.of(dockerfile, build_args, target=platform, build=platform)
    base = globals.expand_from(stage.base)                  FROM sees the ARGs above the first FROM, and platforms
    scope = Scope(globals=globals, env=env_of_the_base)     or parent_scope.child(env) when the base is a stage
    node = scope.expand(node)                               for each instruction
    scope.run_environment()                                 what a RUN at this point has in its environment

An ENV always wins over an ARG of its name. An ARG takes the value that the caller gives, else its own default, else
that of the ARG above the first FROM. Proxies and platforms are known without an ARG where docker knows them.

Source: Dockerfile reference, "Environment replacement", "ARG".
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from wherry.image.dockerfile.checks import check, port_notes
from wherry.image.dockerfile.problems import Place
from wherry.image.dockerfile.syntax import (
    Add,
    Arg,
    Copy,
    Dockerfile,
    Env,
    Expose,
    From,
    Heredoc,
    Instruction,
    Label,
    MountFlag,
    Note,
    Onbuild,
    Run,
    Source,
    Stopsignal,
    User,
    Volume,
    Workdir,
)
from wherry.image.dockerfile.variables import Expander
from wherry.image.platforms import Platform

PROXY_ARGS = frozenset(
    name for scheme in ("HTTP", "HTTPS", "FTP", "NO", "ALL") for name in (f"{scheme}_PROXY", f"{scheme.lower()}_proxy")
)
"""Known to every RUN without an ARG, and kept out of the history and the cache then."""
BUILDER_ARGS = frozenset(
    {
        "BUILDKIT_BUILD_NAME",
        "BUILDKIT_CACHE_MOUNT_NS",
        "BUILDKIT_CONTEXT_KEEP_GIT_DIR",
        "BUILDKIT_INLINE_CACHE",
        "BUILDKIT_MULTI_PLATFORM",
        "BUILDKIT_SANDBOX_HOSTNAME",
        "BUILDKIT_SYNTAX",
        "SOURCE_DATE_EPOCH",
    }
)
"""Arguments for the builder itself, which nothing has to declare."""


def platform_args(target: Platform, build: Platform) -> dict[str, str]:
    """Returns ``TARGETPLATFORM``, ``BUILDARCH`` and their like."""
    found = {}
    for prefix, platform in (("TARGET", target), ("BUILD", build)):
        found[f"{prefix}PLATFORM"] = str(platform)
        found[f"{prefix}OS"] = platform.os
        found[f"{prefix}ARCH"] = platform.architecture
        found[f"{prefix}VARIANT"] = platform.variant
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class GlobalArgs:
    """What is known before the first FROM."""

    given: Mapping[str, str] = field(default_factory=dict)
    """The build arguments of the caller."""
    platform: Mapping[str, str] = field(default_factory=dict)
    declared: Mapping[str, str | None] = field(default_factory=dict)
    """The ARGs above the first FROM; None is without a value."""
    target_stage: str = ""
    escape: str = "\\"
    where: str = "Dockerfile"
    notes: list[Note] = field(default_factory=list, compare=False)

    @classmethod
    def of(
        cls,
        dockerfile: Dockerfile,
        given: Mapping[str, str],
        *,
        target: Platform,
        build: Platform,
        target_stage: str = "",
    ) -> GlobalArgs:
        """Returns the global arguments of a file.

        Args:
            dockerfile: the file.
            given: the build arguments of the caller.
            target: the platform that is built for.
            build: the platform of this machine.
            target_stage: the value of ``TARGETSTAGE``; "" is ``default``.

        Raises:
            InvalidInput: a default is malformed.
        """
        known = platform_args(target, build) | {"TARGETSTAGE": target_stage or "default"}
        declared: dict[str, str | None] = {}
        self = cls(
            given=given,
            platform=known,
            declared=declared,
            target_stage=target_stage,
            escape=dockerfile.directives.escape,
            where=dockerfile.where,
        )
        for node in dockerfile.global_args:
            expander = self.expander(node)
            values: dict[str, str | None] = {}
            for raw, default in node.pairs:
                name = expander.word(raw)
                value = self.given.get(name, known.get(name) if default is None else expander.word(default))
                values[name] = value
            declared.update(values)
            self.tell_undefined(expander, node, "UndefinedVar")
        return self

    def lookup(self, name: str) -> str | None:
        """Returns the value that FROM sees."""
        if name in self.declared:
            return self.declared[name] or ""
        return self.given.get(name, self.platform[name]) if name in self.platform else None

    def expander(self, node: Instruction) -> Expander:
        """Returns what replaces the variables of an instruction in the global scope."""
        place = Place(where=self.where, line=node.first_line, text=node.text)
        return Expander(lookup=self.lookup, place=place, escape=self.escape)

    def expand_from(self, node: From) -> From:
        """Returns a FROM with its variables replaced.

        Raises:
            InvalidInput: nothing is left of the name, or a word is malformed.
        """
        expander = self.expander(node)
        image = expander.word(node.image)
        self.tell_undefined(expander, node, "UndefinedArgInFrom")
        if not image:
            raise expander.place.error(
                f"FROM: the name of the image is empty: {node.image[:80]!r}",
                "set the variable with --build-arg, or give it a default with ARG above the first FROM",
            )
        return replace(node, image=image, platform=expander.word(node.platform))

    def tell_undefined(self, expander: Expander, node: Instruction, rule: str) -> None:
        """Notes the variables that are not set and have no default."""
        for name in sorted(expander.undefined):
            self.notes.append(Note(rule=rule, text=f"the variable {name} is not set", line=node.first_line))


@dataclass(slots=True, kw_only=True)
class Scope:
    """The variables of a stage, as they are after the instructions that `expand` has seen.

    Args:
        globals: what stands above the first FROM.
        env: the environment of the base image.
        args: what the stage that this one stands on has declared.
    """

    globals: GlobalArgs = field(default_factory=GlobalArgs)
    env: dict[str, str] = field(default_factory=dict)
    args: dict[str, str | None] = field(default_factory=dict)

    def child(self, env: Mapping[str, str]) -> Scope:
        """Returns the scope of a stage that stands on this one, whose ARGs it has too."""
        return Scope(globals=self.globals, env=dict(env), args=dict(self.args))

    def lookup(self, name: str) -> str | None:
        """Returns the value of a variable; a declared ARG without one is empty."""
        if name in self.env:
            return self.env[name]
        return (self.args[name] or "") if name in self.args else None

    def expand(self, node: Instruction) -> Instruction:
        """Returns an instruction with its variables replaced, and remembers what it sets.

        Raises:
            InvalidInput: a word is malformed, or not what the instruction takes; points at its line.
        """
        place = Place(where=self.globals.where, line=node.first_line, text=node.text)
        expander = Expander(lookup=self.lookup, place=place, escape=self.globals.escape)
        expanded = _expanded(node, expander)
        self.globals.tell_undefined(expander, node, "UndefinedVar")
        check(expanded, place)
        self._remember(expanded)
        if isinstance(expanded, Expose):
            for rule, text in port_notes(expanded.ports):
                self.globals.notes.append(Note(rule=rule, text=text, line=node.first_line))
        return expanded

    def _remember(self, node: Instruction) -> None:
        if isinstance(node, Env):
            self.env.update(node.pairs)
        elif isinstance(node, Arg):
            for name, default in node.pairs:
                value = self._arg(name, default)
                if value is not None or name not in self.args:
                    self.args[name] = value

    def _arg(self, name: str, default: str | None) -> str | None:
        known = self.globals
        if name in known.given:
            return known.given[name]
        if default is not None:
            return default
        return known.declared[name] if name in known.declared else known.platform.get(name)

    def arg_values(self) -> dict[str, str]:
        """Returns the declared arguments that have a value and that no ENV hides: part of what a RUN depends on."""
        return {name: value for name, value in sorted(self.args.items()) if value is not None and name not in self.env}

    def run_environment(self) -> dict[str, str]:
        """Returns the variables that a RUN has at this point: proxies, then arguments, then the image's own."""
        proxies = {name: value for name, value in self.globals.given.items() if name in PROXY_ARGS}
        return proxies | self.arg_values() | self.env


def _expanded(node: Instruction, expander: Expander) -> Instruction:
    word = expander.word
    match node:
        case Add():
            return replace(
                node,
                sources=_sources(node.sources, expander),
                destination=word(node.destination),
                chown=word(node.chown),
                chmod=word(node.chmod),
                checksum=word(node.checksum),
                exclude=tuple(word(item) for item in node.exclude),
            )
        case Copy():
            return replace(
                node,
                sources=_sources(node.sources, expander),
                destination=word(node.destination),
                chown=word(node.chown),
                chmod=word(node.chmod),
                exclude=tuple(word(item) for item in node.exclude),
            )
        case Env() | Label():
            return replace(node, pairs=tuple((word(name), word(value)) for name, value in node.pairs))
        case Arg():
            pairs = tuple((word(name), None if value is None else word(value)) for name, value in node.pairs)
            return replace(node, pairs=pairs)
        case Expose():
            return replace(node, ports=tuple(port for text in node.ports for port in expander.words(text)))
        case Volume():
            return replace(node, paths=tuple(word(path) for path in node.paths))
        case User():
            return replace(node, user=word(node.user))
        case Workdir():
            return replace(node, path=word(node.path))
        case Stopsignal():
            return replace(node, signal=word(node.signal))
        case Run():
            return replace(node, mounts=tuple(_mount(flag, expander) for flag in node.mounts))
        case _:
            return node


def _sources(sources: tuple[Source, ...], expander: Expander) -> tuple[Source, ...]:
    found: list[Source] = []
    for source in sources:
        if isinstance(source, str):
            found.append(expander.word(source))
        else:
            lines = expander.body(source.content) if source.expand else source.content
            found.append(Heredoc(name=source.name, lines=lines, expand=False))
    return tuple(found)


def _mount(flag: MountFlag, expander: Expander) -> MountFlag:
    options = tuple((name, value if name == "from" else expander.word(value)) for name, value in flag.options)
    return replace(flag, options=options)


def declared_args(dockerfile: Dockerfile) -> frozenset[str]:
    """Returns the names that any ARG of the file declares, those of ONBUILD among them."""
    return frozenset(name for node in _args(dockerfile) for name, _ in node.pairs)


def unused_args(dockerfile: Dockerfile, given: Mapping[str, str]) -> tuple[str, ...]:
    """Returns the build arguments that nothing asks for, sorted: worth a warning, as docker gives one."""
    known = declared_args(dockerfile) | PROXY_ARGS | BUILDER_ARGS
    known |= platform_args(Platform(), Platform()).keys() | {"TARGETSTAGE"}
    return tuple(sorted(given.keys() - known))


def _args(dockerfile: Dockerfile) -> Iterator[Arg]:
    yield from dockerfile.global_args
    for stage in dockerfile.stages:
        for node in stage.instructions:
            inner = node.trigger if isinstance(node, Onbuild) else node
            if isinstance(inner, Arg):
                yield inner
