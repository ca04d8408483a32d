"""A Dockerfile carried out for one platform: stages in their order, each a tree that its instructions change.

COPY and ADD change the tree; RUN is a container, or what the cache knows of it; all others change the config. The
outcome depends on nothing but the file, the arguments, what is copied and the base images: no clock, no order of
files, no machine. ``created`` is what SOURCE_DATE_EPOCH says, else the base image's own.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, TypeGuard

from wherry.core.digest import Checksum
from wherry.core.errors import NotFound, ToolError
from wherry.engine.build import cache, inline, sources
from wherry.engine.build.mounts import Wanted
from wherry.engine.build.running import Runner, Step, Whole
from wherry.engine.build.stagetree import StageTree
from wherry.image.config import EPOCH, make_config
from wherry.image.dockerfile.effects import DEFAULT_PATH, apply_instruction, created_by, resolve_workdir, shell_of
from wherry.image.dockerfile.expansion import Scope
from wherry.image.dockerfile.mounts import BindMount, CacheMount, RunMount, SecretMount, read_mount
from wherry.image.dockerfile.plan import ContextOrigin, ImageOrigin, StageOrigin
from wherry.image.dockerfile.problems import Place
from wherry.image.dockerfile.runs import run_script
from wherry.image.dockerfile.syntax import Add, Arg, Cmd, Copy, Run, Workdir
from wherry.image.layering import Below, below, size_on, stack
from wherry.image.layertar import Tree

if TYPE_CHECKING:
    from wherry.image.catalog import ImageRecord
    from wherry.image.config import ImageConfig
    from wherry.image.dockerfile.plan import BuildPlan, Origin, PlannedStage
    from wherry.image.dockerfile.syntax import Instruction
    from wherry.image.platforms import Platform
    from wherry.store.repository import Repository


class Watcher(Protocol):
    """Somebody who is told how a build goes on."""

    def begin(self, stage: str, number: int, total: int, text: str) -> None:
        """An instruction is carried out now."""

    def end(self, seconds: float, *, cached: bool) -> None:
        """It is done."""


@dataclass(slots=True, kw_only=True)
class BuiltStage:
    """A stage as it is so far."""

    tree: StageTree
    document: dict[str, Any]
    """The whole config."""
    scope: Scope
    below: ImageRecord | None = None
    """The image that it stands on."""
    layers: list[Tree] = field(default_factory=list)
    """What it was after each step that changed a file."""
    keys: list[tuple[str, int]] = field(default_factory=list)
    """Of each RUN what the cache knows it by, and how many layers there were after it."""
    history: list[dict[str, Any]] = field(default_factory=list)
    """Of its own steps."""
    cmd_set: bool = False

    @property
    def config(self) -> dict[str, Any]:
        """What is to be run, as whom, where."""
        return dict(self.document.get("config") or {})


@dataclass(frozen=True, slots=True, kw_only=True)
class BuiltImage:
    """What a build came to."""

    tree: Checksum
    meta: Checksum
    config: ImageConfig
    size_bytes: int
    """Of all its files."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Builder:
    """Builds one image.

    Args:
        runner: carries out RUN; its session has the store.
        images: finds, or pulls, an image for a platform.
        contexts: the build context by the name "", and those that the caller names; read when they are needed.
        platform: what is built for.
        watcher: is told of each step.
        use_cache: whether what was run before is not run again; called with a stage's name.
        created: RFC 3339, of the image; "" is the base image's.
        labels: further ones.
        environment: of git, for ADD.
        further: roots after steps that were run elsewhere, by their keys.
        inline: tell in the config which steps the layers came of.
    """

    runner: Runner
    images: Callable[[ImageOrigin, Platform], ImageRecord]
    contexts: Callable[[str], StageTree]
    platform: Platform
    watcher: Watcher
    use_cache: Callable[[str], bool] = lambda stage: True
    created: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    further: Mapping[str, Whole] = field(default_factory=dict)
    inline: bool = False
    done: dict[int, BuiltStage] = field(default_factory=dict)
    trees: dict[Checksum, StageTree] = field(default_factory=dict)

    @property
    def repo(self) -> Repository:
        """Where trees are."""
        return self.runner.session.repo

    def build(self, plan: BuildPlan) -> BuiltImage:
        """Carries out a plan.

        Raises:
            ToolError: a command failed; says where it stands.
            NotFound: an image, or what is to be copied, is not there.
            InvalidInput: an instruction cannot be carried out; points at its line.
        """
        for planned in plan.stages:
            stage = self._begin(plan, planned)
            total = len(planned.instructions)
            for number, node in enumerate(planned.instructions, 1):
                self.watcher.begin(planned.name, number, total, node.text)
                begun = time.monotonic()
                cached = self._carry_out(plan, planned, stage, node)
                self.watcher.end(time.monotonic() - begun, cached=cached)
            self.runner.session.hold(stage.tree)
            self.done[planned.index] = stage
        return self._finish(self.done[plan.target.index])

    # --- stages

    def _begin(self, plan: BuildPlan, planned: PlannedStage) -> BuiltStage:
        origin = planned.origin
        if isinstance(origin, StageOrigin):
            first = self.done[origin.index]
            return BuiltStage(
                tree=StageTree(self.repo, *first.tree.write()),
                document={**first.document, "config": _without_triggers(first.config)},
                scope=first.scope.child(_environment(first.config)),
                below=first.below,
                layers=list(first.layers),
                keys=list(first.keys),
                history=list(first.history),
            )
        if isinstance(origin, ImageOrigin):
            record = self.images(origin, planned.platform or self.platform)
            commit = self.repo.load_commit(record.commit)
            document = record.config.document()
            document["config"] = _without_triggers(document.get("config") or {})
            return BuiltStage(
                tree=StageTree(self.repo, commit.tree, commit.meta),
                document=document,
                scope=Scope(globals=plan.global_args, env=_environment(document.get("config") or {})),
                below=record,
            )
        tree_of = self.contexts(origin.name) if isinstance(origin, ContextOrigin) else StageTree(self.repo)
        wanted = planned.platform or self.platform
        config = {} if isinstance(origin, ContextOrigin) else {"Env": [f"PATH={DEFAULT_PATH}"]}  # as docker has it
        document = {"os": wanted.os, "architecture": wanted.architecture, "config": config}
        if wanted.variant:
            document["variant"] = wanted.variant
        whole = Tree(*tree_of.write())
        made = whole != StageTree(self.repo).write()
        return BuiltStage(
            tree=StageTree(self.repo, *whole),
            document=document,
            scope=Scope(globals=plan.global_args, env=_environment(config)),
            layers=[whole] if made else [],
            history=[{"created_by": f"FROM {planned.name}"}] if made else [],
        )

    def _finish(self, stage: BuiltStage) -> BuiltImage:
        tree, meta = stage.tree.write()
        document = dict(stage.document)
        config = stage.config
        if self.labels:
            config["Labels"] = {**(config.get("Labels") or {}), **self.labels}
        document["config"] = {key: value for key, value in config.items() if value is not None}
        document["created"] = self.created or document.get("created") or EPOCH
        base = below(self.repo, stage.below) if stage.below is not None else Below()
        document["history"] = [{"created": document["created"], **entry} for entry in (*base.history, *stage.history)]
        stack(self.repo, document, base, stage.layers)
        document.pop(inline.CONFIG_KEY, None)  # of the base
        if self.inline and stage.keys:
            document[inline.CONFIG_KEY] = inline.told(len(stage.layers), stage.keys)
        for key in ("container", "container_config", "docker_version", "id", "parent"):
            document.pop(key, None)  # of docker's own builder, about the image below
        size = size_on(self.repo, stage.below, tree)
        return BuiltImage(
            tree=tree, meta=meta, config=make_config(document, where="the image's config"), size_bytes=size
        )

    # --- instructions

    def _carry_out(self, plan: BuildPlan, planned: PlannedStage, stage: BuiltStage, raw: Instruction) -> bool:
        """Carries out one instruction; returns whether the cache knew what it comes to."""
        before = Tree(*stage.tree.write())
        node = stage.scope.expand(raw)
        where = plan.global_args.where
        place = Place(where=where, line=raw.first_line, text=raw.text)
        config = stage.config
        shell = shell_of(config)
        cached, key = False, ""
        if isinstance(node, Run):
            cached, key = self._run(planned, stage, node, place)
        elif isinstance(node, Copy):
            sources.carry_out_copy(stage.tree, node, self._copied_from(planned, node), self._workdir(stage), place)
        elif isinstance(node, Add):
            context = self.contexts if any(isinstance(source, str) for source in node.sources) else None
            workdir = self._workdir(stage)
            sources.carry_out_add(stage.tree, node, context, workdir, place, environment=self.environment)
        elif isinstance(node, Workdir):
            path = resolve_workdir(str(config.get("WorkingDir") or "/"), node.path)
            owner = sources.owner_of(stage.tree, str(config.get("User") or ""), place)
            stage.tree.make_directories(path, uid=owner.uid or 0, gid=owner.gid or 0)
        apply_instruction(config, node, cmd_set=stage.cmd_set)
        stage.cmd_set = stage.cmd_set or isinstance(node, Cmd)
        stage.document["config"] = config
        entry: dict[str, Any] = {"created_by": created_by(node, shell=shell, args=stage.scope.arg_values())}
        whole = Tree(*stage.tree.write())
        if whole != before:
            stage.layers.append(whole)
            self.runner.session.hold(StageTree(self.repo, *whole))
        else:
            entry["empty_layer"] = True
        if key:
            stage.keys.append((key, len(stage.layers)))
        if not isinstance(node, Arg):
            stage.history.append(entry)
        return cached

    def _workdir(self, stage: BuiltStage) -> str:
        return str(stage.config.get("WorkingDir") or "/")

    def _copied_from(self, planned: PlannedStage, node: Copy) -> StageTree | None:
        if not any(isinstance(source, str) for source in node.sources):
            return None
        return self._tree_of(planned.sources[node.from_]) if node.from_ else self.contexts("")

    def _tree_of(self, origin: Origin) -> StageTree:
        if isinstance(origin, StageOrigin):
            return self.done[origin.index].tree
        if isinstance(origin, ContextOrigin):
            return self.contexts(origin.name)
        if isinstance(origin, ImageOrigin):
            record = self.images(origin, origin.platform or self.platform)
            if record.commit not in self.trees:
                commit = self.repo.load_commit(record.commit)
                tree = StageTree(self.repo, commit.tree, commit.meta)
                self.trees[record.commit] = self.runner.session.hold(tree)
            return self.trees[record.commit]
        return StageTree(self.repo)

    def _run(self, planned: PlannedStage, stage: BuiltStage, node: Run, place: Place) -> tuple[bool, str]:
        """Carries out a command; returns whether its outcome was known, and its key."""
        config = stage.config
        script = run_script(node, shell_of(config))
        mounts = tuple(read_mount(flag, place) for flag in node.mounts)
        bound = {mount.from_: self._bound(planned, mount.from_) for mount in mounts if _binds(mount)}
        step = Step(
            args=script.args,
            env=stage.scope.run_environment(),
            user=str(config.get("User") or ""),
            network=node.network,
            wanted=Wanted(
                mounts=mounts,
                sources=bound,
                script=(script.file_name, script.file_content),
                workdir=self._workdir(stage),
                platform=_platform_of(stage.document),
                where=str(place),
            ),
        )
        root = stage.tree.write()
        key = cache.key_of(
            tree=root[0],
            meta=root[1],
            args=list(step.args),
            script=list(step.wanted.script),
            env=dict(sorted((stage.scope.arg_values() | stage.scope.env).items())),
            user=step.user,
            workdir=step.wanted.workdir,
            network=self.runner.network_of(step.network),
            hosts=list(self.runner.template.add_hosts),
            platform=step.wanted.platform,
            mounts=[_told(mount, bound) for mount in mounts],
        )
        known = (cache.find(self.repo, key) or self.further.get(key)) if self.use_cache(planned.name) else None
        if known is not None:
            stage.tree = StageTree(self.repo, *known)
            return True, key
        after: list[Whole] = []

        def remember(changed: Whole) -> None:
            cache.remember(self.repo, key, *changed, subject=node.text)
            after.append(changed)

        status = self.runner.run(root, step, remember)
        if status:
            raise ToolError(f"the command ended with status {status}", where=place)
        stage.tree = StageTree(self.repo, *after[0])
        return False, key

    def _bound(self, planned: PlannedStage, name: str) -> StageTree:
        return self._tree_of(planned.sources[name]) if name else self.contexts("")


def _environment(config: Mapping[str, Any]) -> dict[str, str]:
    env = dict(item.partition("=")[::2] for item in config.get("Env") or [])
    env.setdefault("PATH", DEFAULT_PATH)
    return env


def _without_triggers(config: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a config without what is done in the builds that stand on it: it has been done."""
    return {key: value for key, value in config.items() if key != "OnBuild"}


def _platform_of(document: Mapping[str, Any]) -> str:
    parts = (document.get("os") or "linux", document.get("architecture") or "", document.get("variant") or "")
    return "/".join(part for part in parts if part)


def _binds(mount: RunMount) -> TypeGuard[BindMount | CacheMount]:
    """Tells whether a mount shows a tree, or begins as a copy of one."""
    return isinstance(mount, BindMount) or (isinstance(mount, CacheMount) and bool(mount.from_))


def _told(mount: RunMount, bound: Mapping[str, StageTree]) -> list[Any]:
    """Returns what of a mount the outcome depends on."""
    kind = type(mount).__name__
    if isinstance(mount, BindMount):
        tree = bound[mount.from_]
        real = tree.follow(mount.source)
        found = tree.lookup(real)
        if found is None:
            raise NotFound(f"no such file or directory to mount: {mount.source}")
        whole = [*tree.write()] if not isinstance(found, str) else [found]
        return [kind, mount.target, mount.source, mount.read_only, *whole]
    if isinstance(mount, SecretMount):
        return [kind, mount.id, mount.target, mount.env, mount.mode, mount.uid, mount.gid]
    if isinstance(mount, CacheMount):
        first = [mount.source, *bound[mount.from_].write()] if mount.from_ else []
        return [kind, mount.id, mount.target, mount.read_only, *first]
    return [kind, mount.target]
