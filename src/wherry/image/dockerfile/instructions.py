"""From the text of one instruction to its node.

What docker falls back to is fallen back to: a list that is no JSON is a shell command or a list of words. What holds a
variable is checked when it is replaced (`checks.check`), all else at once.

Source: Dockerfile reference, the section of each instruction.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypedDict

from wherry.image.dockerfile.flags import Flags
from wherry.image.dockerfile.lines import Line, heredoc_head
from wherry.image.dockerfile.mounts import split_mount
from wherry.image.dockerfile.problems import Place, nearest
from wherry.image.dockerfile.syntax import (
    Add,
    Arg,
    Cmd,
    Command,
    Copy,
    Entrypoint,
    Env,
    ExecForm,
    Expose,
    From,
    Healthcheck,
    Heredoc,
    Instruction,
    Label,
    Maintainer,
    Note,
    Onbuild,
    Run,
    Shell,
    ShellForm,
    Source,
    Stopsignal,
    User,
    Volume,
    Workdir,
)
from wherry.image.dockerfile.words import SPACE, json_words, plain_words, quoted_words, split_first, split_flags

NETWORKS = ("default", "none", "host")
MAX_RETRIES = 2**31 - 1
MAX_DURATION_NS = 2**63 - 1
_STAGE_NAME = re.compile(r"[a-z][a-z0-9._-]*\Z")
_ARG_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*\Z")
_DURATION = re.compile(r"(?:(?:\d{1,18}(?:\.\d{0,18})?|\.\d{1,18})(?:ns|us|µs|μs|ms|s|m|h))+\Z")
_DURATION_PART = re.compile(r"(\d*)(?:\.(\d*))?(ns|us|µs|μs|ms|s|m|h)")
_UNIT_NS = {"ns": 1, "us": 10**3, "µs": 10**3, "μs": 10**3, "ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9}
_MIN_DURATION_NS = 10**6
_NAMED_RESERVED = frozenset({"scratch", "context"})
_NOT_ON_BUILD = {
    "ONBUILD": "a trigger cannot set another trigger",
    "FROM": "a trigger runs within the stage that stands on this image",
    "MAINTAINER": "write LABEL org.opencontainers.image.authors instead",
}


class Lines(TypedDict):
    """What every node has."""

    first_line: int
    last_line: int
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """One instruction on its way to a node."""

    keyword: str
    rest: str
    """What follows the name and the flags."""
    flags: Flags
    line: Line
    place: Place
    escape: str
    notes: list[Note]

    @property
    def at(self) -> Lines:
        """Where the node stands."""
        return {"first_line": self.line.first_line, "last_line": self.line.last_line, "text": self.line.text}

    def note(self, rule: str, text: str) -> None:
        """Adds a warning."""
        self.notes.append(Note(rule=rule, text=text, line=self.line.first_line))

    def one_argument(self, hint: str) -> str:
        """Returns the whole rest, which must be something."""
        if not self.rest:
            raise self.place.error(f"{self.keyword} needs an argument", hint)
        return self.rest


def read_instruction(line: Line, where: str, escape: str, notes: list[Note]) -> Instruction:
    """Returns the node of one instruction.

    Raises:
        InvalidInput: it is not known, or malformed; points at the line.
    """
    word, rest = split_first(line.text)
    keyword = word.upper()
    place = Place(where=where, line=line.first_line, text=line.text)
    read = _READERS.get(keyword)
    if read is None:
        raise place.error(f"unknown instruction: {word[:40]!r}", _unknown_hint(word, rest))
    words, rest = split_flags(rest, escape)
    return read(
        Reading(
            keyword=keyword,
            rest=rest.strip(SPACE),
            flags=Flags(keyword, words, place),
            line=line,
            place=place,
            escape=escape,
            notes=notes,
        )
    )


def _unknown_hint(word: str, rest: str) -> str:
    near = nearest(word.upper(), _READERS)
    if near:
        return near
    if not rest or not word.isalpha():
        return "does the line before it lack its continuation, or a heredoc its << as a word of its own?"
    return f"instructions are {' '.join(sorted(_READERS))}"


def _command(reading: Reading) -> Command | None:
    """Returns the command, None for none at all."""
    if not reading.rest:
        return None
    args = json_words(reading.rest, reading.place)
    if args is not None:
        return ExecForm(args=args)
    # [ -f x ] is a command of the shell, so that a space after the bracket is no mistake.
    if reading.rest.startswith("[") and reading.rest.endswith("]") and not reading.rest.startswith("[ "):
        reading.note(
            "JSONArgsRecommended",
            f"{reading.keyword}: looks like a list and is no JSON, so a shell runs it; use double quotes",
        )
    return ShellForm(text=reading.rest)


def _from(reading: Reading) -> Instruction:
    words = plain_words(reading.rest)
    name = ""
    if len(words) == 3 and words[1].lower() == "as":
        name = words[2].lower()
        if _STAGE_NAME.match(name) is None:
            raise reading.place.error(
                f"not a name for a stage: {words[2][:60]!r}", "it begins with a letter; then letters, digits, . _ and -"
            )
        if name != words[2]:
            reading.note("StageNameCasing", f"the name of a stage is lower case: {words[2]}")
        if (words[1] == "AS") != (reading.line.text[:4] == "FROM"):
            reading.note("FromAsCasing", f"{words[1]!r} is not written as {reading.line.text[:4]!r} is")
        if name in _NAMED_RESERVED:
            reading.note("ReservedStageName", f"{name} means something else; choose another name for the stage")
    elif len(words) != 1:
        got = f"got {len(words)} words" if words else "got nothing"
        raise reading.place.error(f"FROM: IMAGE or IMAGE AS NAME expected, {got}", "write FROM IMAGE AS NAME")
    platform = reading.flags.text("platform")
    if platform in ("$TARGETPLATFORM", "${TARGETPLATFORM}"):
        reading.note("RedundantTargetPlatform", "--platform=$TARGETPLATFORM is what is done without it")
    elif platform and "$" not in platform:
        reading.note("FromPlatformFlagConstDisallowed", "a fixed --platform builds for that platform alone")
    return From(image=words[0], platform=platform, stage_name=name, **reading.at)


def _run(reading: Reading) -> Instruction:
    command = _command(reading)
    if command is None or command == ExecForm(args=()):
        raise reading.place.error("RUN needs a command", 'write RUN COMMAND or RUN ["PROGRAM", "ARGUMENT"]')
    network = reading.flags.text("network") or "default"
    if network not in NETWORKS:
        raise reading.place.error(
            f"RUN: not a network: {network[:40]!r}", nearest(network, NETWORKS) or f"networks are {' '.join(NETWORKS)}"
        )
    if reading.line.heredocs and isinstance(command, ExecForm):
        raise reading.place.error("RUN: a heredoc goes with a shell command, not with a list")
    mounts = tuple(split_mount(text, reading.place) for text in reading.flags.texts("mount"))
    return Run(command=command, mounts=mounts, network=network, heredocs=reading.line.heredocs, **reading.at)


def _cmd(reading: Reading) -> Instruction:
    command = _command(reading)
    if command is None:
        raise reading.place.error("CMD needs an argument", 'write CMD ["PROGRAM", "ARGUMENT"], or CMD [] for none')
    if isinstance(command, ShellForm):
        reading.note(
            "JSONArgsRecommended", "CMD: a shell stands between the program and its signals; write a JSON list"
        )
    return Cmd(command=command, **reading.at)


def _entrypoint(reading: Reading) -> Instruction:
    command = _command(reading)
    if command is None:
        raise reading.place.error("ENTRYPOINT needs an argument", 'write ENTRYPOINT ["PROGRAM"], or [] for none')
    if isinstance(command, ShellForm):
        reading.note(
            "JSONArgsRecommended", "ENTRYPOINT: a shell stands between the program and its signals; write a JSON list"
        )
    return Entrypoint(command=command, **reading.at)


def _pairs(reading: Reading) -> tuple[tuple[str, str], ...]:
    """Reads ``A=b C="d e"``, or the old form ``A b``."""
    words = quoted_words(reading.rest, reading.escape)
    if not words:
        raise reading.place.error(f"{reading.keyword} needs an argument", f"write {reading.keyword} NAME=VALUE")
    if "=" not in words[0]:
        name, value = split_first(reading.rest)
        if not value:
            raise reading.place.error(
                f"{reading.keyword}: NAME=VALUE expected, got {name[:60]!r}",
                f"write {reading.keyword} {name[:60]}=VALUE",
            )
        reading.note("LegacyKeyValueFormat", f"{reading.keyword}: write NAME=VALUE, not NAME VALUE")
        return ((name, value),)
    found = []
    for word in words:
        name, equals, value = word.partition("=")
        if not name or not equals:
            raise reading.place.error(
                f"{reading.keyword}: NAME=VALUE expected, got {word[:60]!r}", "is a value with spaces in quotes?"
            )
        found.append((name, value))
    return tuple(found)


def _env(reading: Reading) -> Instruction:
    return Env(pairs=_pairs(reading), **reading.at)


def _label(reading: Reading) -> Instruction:
    return Label(pairs=_pairs(reading), **reading.at)


def _arg(reading: Reading) -> Instruction:
    words = quoted_words(reading.rest, reading.escape)
    if not words:
        raise reading.place.error("ARG needs an argument", "write ARG NAME or ARG NAME=DEFAULT")
    pairs: list[tuple[str, str | None]] = []
    for word in words:
        name, equals, value = word.partition("=")
        if "$" not in name and not set(name) & {"'", '"', reading.escape} and _ARG_NAME.match(name) is None:
            raise reading.place.error(f"ARG: not the name of a variable: {name[:60]!r}", "write ARG NAME=DEFAULT")
        pairs.append((name, value if equals else None))
    return Arg(pairs=tuple(pairs), **reading.at)


def _maintainer(reading: Reading) -> Instruction:
    reading.note("MaintainerDeprecated", "MAINTAINER is deprecated; write LABEL org.opencontainers.image.authors")
    return Maintainer(name=reading.one_argument("write LABEL org.opencontainers.image.authors=NAME"), **reading.at)


def _expose(reading: Reading) -> Instruction:
    reading.one_argument("write EXPOSE 80 or EXPOSE 53/udp")
    return Expose(ports=plain_words(reading.rest), **reading.at)


def _paths(reading: Reading) -> tuple[tuple[Source, ...], str]:
    """Returns the sources and the destination of ADD and COPY."""
    words = json_words(reading.rest, reading.place)
    if words is None:
        words = plain_words(reading.rest)
    if len(words) < 2:
        got = f"got only {words[0][:60]!r}" if words else "got nothing"
        raise reading.place.error(
            f"{reading.keyword}: a source and a destination expected, {got}",
            f"write {reading.keyword} SOURCE ... DESTINATION",
        )
    pending = list(reading.line.heredocs)
    sources: list[Source] = []
    for word in words[:-1]:
        head = heredoc_head(word) if pending else None
        sources.append(pending.pop(0) if head is not None and head.name == pending[0].name else word)
    if heredoc_head(words[-1]) is not None and reading.line.heredocs:
        raise reading.place.error(
            f"{reading.keyword}: a heredoc cannot be the destination", "write the path of the file after it"
        )
    return tuple(sources), words[-1]


def _copy(reading: Reading) -> Instruction:
    sources, destination = _paths(reading)
    flags = reading.flags
    if "$" in flags.text("from")[:-1]:
        raise reading.place.error(
            "COPY: --from takes no variables", "name a stage for it: FROM $IMAGE AS NAME, then --from=NAME"
        )
    if flags.text("from") and any(isinstance(source, Heredoc) for source in sources):
        raise reading.place.error("COPY: a heredoc comes from no other stage", "write an instruction of its own for it")
    return Copy(
        sources=sources,
        destination=destination,
        from_=flags.text("from"),
        chown=flags.text("chown"),
        chmod=flags.text("chmod"),
        link=bool(flags.switch("link")),
        parents=bool(flags.switch("parents")),
        exclude=flags.texts("exclude"),
        **reading.at,
    )


def _add(reading: Reading) -> Instruction:
    sources, destination = _paths(reading)
    flags = reading.flags
    return Add(
        sources=sources,
        destination=destination,
        chown=flags.text("chown"),
        chmod=flags.text("chmod"),
        link=bool(flags.switch("link")),
        checksum=flags.text("checksum"),
        keep_git_dir=bool(flags.switch("keep-git-dir")),
        unpack=flags.switch("unpack"),
        exclude=flags.texts("exclude"),
        **reading.at,
    )


def _volume(reading: Reading) -> Instruction:
    words = json_words(reading.rest, reading.place)
    words = plain_words(reading.rest) if words is None else words
    if not words or not all(words):
        raise reading.place.error("VOLUME needs a path", 'write VOLUME /path or VOLUME ["/path"]')
    return Volume(paths=words, **reading.at)


def _user(reading: Reading) -> Instruction:
    return User(user=reading.one_argument("write USER NAME, USER UID or USER UID:GID"), **reading.at)


def _workdir(reading: Reading) -> Instruction:
    return Workdir(path=reading.one_argument("write WORKDIR /path"), **reading.at)


def _stopsignal(reading: Reading) -> Instruction:
    signal = reading.one_argument("write STOPSIGNAL SIGTERM")
    if len(plain_words(signal)) != 1:
        raise reading.place.error(f"STOPSIGNAL: one signal expected, got {signal[:60]!r}", "write STOPSIGNAL SIGTERM")
    return Stopsignal(signal=signal, **reading.at)


def _shell(reading: Reading) -> Instruction:
    args = json_words(reading.rest, reading.place)
    if not args:
        raise reading.place.error("SHELL: a JSON list expected", 'write SHELL ["/bin/bash", "-c"]')
    return Shell(args=args, **reading.at)


def _onbuild(reading: Reading) -> Instruction:
    word, _ = split_first(reading.one_argument("write ONBUILD RUN ... or another instruction"))
    if word.upper() in _NOT_ON_BUILD:
        raise reading.place.error(f"{word.upper()} is not allowed after ONBUILD", _NOT_ON_BUILD[word.upper()])
    line = Line(
        first_line=reading.line.first_line,
        last_line=reading.line.last_line,
        text=reading.rest,
        heredocs=reading.line.heredocs,
    )
    trigger = read_instruction(line, reading.place.where, reading.escape, reading.notes)
    bodies = "".join(f"\n{heredoc.lines}{heredoc.name}" for heredoc in reading.line.heredocs)
    return Onbuild(expression=reading.rest + bodies, trigger=trigger, **reading.at)


def _healthcheck(reading: Reading) -> Instruction:
    word, rest = split_first(reading.rest)
    flags, place = reading.flags, reading.place
    values = {
        "interval_ns": parse_duration_ns("interval", flags.text("interval"), place),
        "timeout_ns": parse_duration_ns("timeout", flags.text("timeout"), place),
        "start_period_ns": parse_duration_ns("start-period", flags.text("start-period"), place),
        "start_interval_ns": parse_duration_ns("start-interval", flags.text("start-interval"), place),
        "retries": _retries(flags.text("retries"), place),
    }
    if word.upper() == "NONE":
        if rest:
            raise place.error(f"HEALTHCHECK NONE takes no arguments, got {rest[:60]!r}")
        return Healthcheck(command=None, **reading.at)
    if word.upper() != "CMD":
        got = f"got {word[:40]!r}" if word else "got nothing"
        raise place.error(f"HEALTHCHECK: CMD or NONE expected, {got}", "write HEALTHCHECK CMD COMMAND")
    args = json_words(rest, place)
    if not rest or args == ():
        raise place.error("HEALTHCHECK CMD needs a command")
    command = ShellForm(text=rest) if args is None else ExecForm(args=args)
    return Healthcheck(command=command, **values, **reading.at)


def parse_duration_ns(name: str, text: str, place: Place) -> int:
    """Returns the nanoseconds that a duration of Go such as ``1m30s`` or ``1.5h`` means; "" and 0 are 0.

    Raises:
        InvalidInput: it is none, or shorter than docker takes.
    """
    if text in ("", "0"):
        return 0
    if _DURATION.match(text) is None:
        raise place.error(f"HEALTHCHECK: --{name}: not a duration: {text[:40]!r}", "write it as 30s, 1m30s or 500ms")
    total = 0
    for whole, fraction, unit in _DURATION_PART.findall(text):
        total += int(whole or "0") * _UNIT_NS[unit]
        total += int(fraction or "0") * _UNIT_NS[unit] // 10 ** len(fraction)
    if 0 < total < _MIN_DURATION_NS or total > MAX_DURATION_NS:
        raise place.error(f"HEALTHCHECK: --{name}: from 1ms to 292 years, got {text[:40]!r}")
    return total


def _retries(text: str, place: Place) -> int:
    if not text:
        return 0
    if not text.isascii() or not text.isdigit() or len(text) > 10 or int(text) > MAX_RETRIES:
        raise place.error(f"HEALTHCHECK: --retries is a number, got {text[:40]!r}", "write it as --retries=3")
    return int(text)


_READERS: Mapping[str, Callable[[Reading], Instruction]] = {
    "ADD": _add,
    "ARG": _arg,
    "CMD": _cmd,
    "COPY": _copy,
    "ENTRYPOINT": _entrypoint,
    "ENV": _env,
    "EXPOSE": _expose,
    "FROM": _from,
    "HEALTHCHECK": _healthcheck,
    "LABEL": _label,
    "MAINTAINER": _maintainer,
    "ONBUILD": _onbuild,
    "RUN": _run,
    "SHELL": _shell,
    "STOPSIGNAL": _stopsignal,
    "USER": _user,
    "VOLUME": _volume,
    "WORKDIR": _workdir,
}
