"""What a Dockerfile says, as values that never change.

The way through this package::

    parse_dockerfile(bytes, where=)      parsing.py     -> Dockerfile: directives, global ARGs, stages, notes
    plan_build(dockerfile, ...)          plan.py        -> BuildPlan: the stages to build, in order
    tell(notes, directives, where)       lint.py        -> the notes that are to be told, or an error
    Scope(...).expand(instruction)       expansion.py   -> the same class, variables replaced and checked
    apply_instruction(document, node)    effects.py     -> what it does to an image's config; created_by() for history
    parse_ignore(bytes).excludes(path)   ignore.py      -> what of a build context is left out

A Dockerfile is a tree of these::

    Dockerfile
    ├── directives: Directives          syntax, escape, check
    ├── global_args: (Arg, ...)         those before the first FROM
    ├── stages: (Stage, ...)            index, name, base: From, instructions: (Instruction, ...)
    └── notes: (Note, ...)              warnings by docker's rule names

    Instruction = Add | Arg | Cmd | Copy | Entrypoint | Env | Expose | Healthcheck | Label | Maintainer | Onbuild
                | Run | Shell | Stopsignal | User | Volume | Workdir      (and From, which begins a stage)
    command     = ShellForm(text) | ExecForm(args)                        of Run, Cmd, Entrypoint, Healthcheck
    source      = str | Heredoc                                           of Add, Copy

Every node has ``first_line``, ``last_line`` and ``text``, its line as written with the continuations joined; these
do not count when two nodes are compared. **Words are raw**: as written, with quotes and variables; ``Scope.expand``
makes them plain. So ``Env(pairs=(("A", '"b c"'),))`` is ``Env(pairs=(("A", "b c"),))`` after it. What ``RUN``, ``CMD``,
``ENTRYPOINT``, ``SHELL`` and ``HEALTHCHECK`` run is never expanded here: the shell in the container does that.

Source: Dockerfile reference (docs.docker.com/reference/dockerfile), syntax 1.24 without what is in its labs channel.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """Anything that stands in a Dockerfile."""

    first_line: int = field(default=0, compare=False)
    last_line: int = field(default=0, compare=False)
    text: str = field(default="", compare=False, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class ShellForm:
    """A command for the shell that ``SHELL`` names."""

    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecForm:
    """A command as a list of arguments, written as JSON."""

    args: tuple[str, ...]


Command: TypeAlias = ShellForm | ExecForm


@dataclass(frozen=True, slots=True, kw_only=True)
class Heredoc:
    """Lines that follow an instruction, up to one that is ``name``.

    As a source of ADD and COPY it is a file called ``name``; see `content`.
    """

    name: str
    lines: str
    """All of them as written, each with its newline; after `Scope.expand` without the tabs to strip."""
    expand: bool = True
    """Whether variables in it are replaced: the name was written without quotes."""
    strip_tabs: bool = False
    """Whether tabs at the beginning of each line are dropped: ``<<-``."""
    fd: int = 0
    """The file descriptor before ``<<``, which only a shell makes use of."""

    @property
    def content(self) -> str:
        """The lines, without leading tabs where those are stripped."""
        if not self.strip_tabs:
            return self.lines
        return "".join(line.lstrip("\t") for line in self.lines.splitlines(keepends=True))


Source: TypeAlias = str | Heredoc


@dataclass(frozen=True, slots=True, kw_only=True)
class From(Node):
    """``FROM [--platform=P] IMAGE [AS NAME]``."""

    image: str
    platform: str = ""
    stage_name: str = ""
    """In lower case."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MountFlag:
    """One ``--mount`` as written, its keys by their first names; `mounts.read_mount` makes it a mount."""

    type: str
    options: tuple[tuple[str, str], ...] = ()

    @property
    def source_name(self) -> str:
        """The stage, image or context that ``from`` names; "" for none."""
        return dict(self.options).get("from", "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Run(Node):
    """``RUN [--mount=...] [--network=...] COMMAND``; `runs.run_script` tells what to execute."""

    command: Command
    mounts: tuple[MountFlag, ...] = ()
    network: str = "default"
    """``default``, ``none`` or ``host``."""
    heredocs: tuple[Heredoc, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Cmd(Node):
    """``CMD COMMAND``."""

    command: Command


@dataclass(frozen=True, slots=True, kw_only=True)
class Entrypoint(Node):
    """``ENTRYPOINT COMMAND``."""

    command: Command


@dataclass(frozen=True, slots=True, kw_only=True)
class Label(Node):
    """``LABEL NAME=VALUE ...``."""

    pairs: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Env(Node):
    """``ENV NAME=VALUE ...``."""

    pairs: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Arg(Node):
    """``ARG NAME[=DEFAULT] ...``; a default of None is: not given."""

    pairs: tuple[tuple[str, str | None], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Maintainer(Node):
    """``MAINTAINER NAME``, deprecated."""

    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Expose(Node):
    """``EXPOSE PORT[-PORT][/PROTOCOL] ...``."""

    ports: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Copy(Node):
    """``COPY [FLAGS] SOURCE ... DESTINATION``."""

    sources: tuple[Source, ...]
    destination: str
    from_: str = ""
    """A stage's name or number, an image, or a named context; never expanded."""
    chown: str = ""
    chmod: str = ""
    """Octal or symbolic; `modes.parse_chmod` reads it."""
    link: bool = False
    parents: bool = False
    exclude: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Add(Node):
    """``ADD [FLAGS] SOURCE ... DESTINATION``; `sources.classify` tells what each source is."""

    sources: tuple[Source, ...]
    destination: str
    chown: str = ""
    chmod: str = ""
    link: bool = False
    checksum: str = ""
    """``sha256:...`` of a download, or a commit's id of a Git source."""
    keep_git_dir: bool = False
    unpack: bool | None = None
    """None: local archives are unpacked, downloads are not."""
    exclude: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Volume(Node):
    """``VOLUME PATH ...``."""

    paths: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class User(Node):
    """``USER USER[:GROUP]``."""

    user: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Workdir(Node):
    """``WORKDIR PATH``."""

    path: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Onbuild(Node):
    """``ONBUILD INSTRUCTION``: what builds that stand on this image begin with."""

    expression: str
    """The instruction as written, heredocs and all; the config keeps this."""
    trigger: Instruction


@dataclass(frozen=True, slots=True, kw_only=True)
class Stopsignal(Node):
    """``STOPSIGNAL SIGNAL``."""

    signal: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Healthcheck(Node):
    """``HEALTHCHECK [OPTIONS] CMD COMMAND`` or ``HEALTHCHECK NONE``.

    0 is: as in the image below, or docker's default.
    """

    command: Command | None
    """None: ``NONE``."""
    interval_ns: int = 0
    timeout_ns: int = 0
    start_period_ns: int = 0
    start_interval_ns: int = 0
    retries: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Shell(Node):
    """``SHELL ["PROGRAM", "ARGUMENT", ...]``."""

    args: tuple[str, ...]


Instruction: TypeAlias = (
    Add
    | Arg
    | Cmd
    | Copy
    | Entrypoint
    | Env
    | Expose
    | From
    | Healthcheck
    | Label
    | Maintainer
    | Onbuild
    | Run
    | Shell
    | Stopsignal
    | User
    | Volume
    | Workdir
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Directives:
    """The parser directives at the head: ``# syntax=``, ``# escape=``, ``# check=``."""

    syntax: str = ""
    """The frontend that is asked for. Kept, and not followed: there is one reader here."""
    escape: str = "\\"
    skip_checks: frozenset[str] = frozenset()
    """Rules whose notes are not told; ``all`` is all."""
    check_error: bool = False
    """Whether a note is an error."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """Something that works and should not be written so. `rule` is the name that docker's build checks give it."""

    rule: str
    text: str
    line: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """One ``FROM`` and what follows it."""

    index: int
    base: From
    instructions: tuple[Instruction, ...]

    @property
    def name(self) -> str:
        """The name after ``AS``, else the number."""
        return self.base.stage_name or str(self.index)


@dataclass(frozen=True, slots=True, kw_only=True)
class Dockerfile:
    """A whole file."""

    directives: Directives = Directives()
    global_args: tuple[Arg, ...] = ()
    stages: tuple[Stage, ...] = ()
    notes: tuple[Note, ...] = field(default=(), compare=False)
    where: str = field(default="Dockerfile", compare=False)


KEYWORDS: Mapping[type[Node], str] = {
    cls: cls.__name__.upper()
    for cls in (
        Add, Arg, Cmd, Copy, Entrypoint, Env, Expose, From, Healthcheck, Label, Maintainer, Onbuild, Run, Shell,
        Stopsignal, User, Volume, Workdir,
    )
}  # fmt: skip
"""The word that each instruction begins with."""
