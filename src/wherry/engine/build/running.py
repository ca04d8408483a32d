"""RUN: a container over the root of a stage, and what it changed, folded into a new root.

The container is one as any other, with docker's policy of capabilities and system calls, and is gone afterwards. What
it sees beside its root is in `mounts`. Empty folders that only held a mount are taken out of the root again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from wherry.core.digest import Checksum
from wherry.core.value import replace
from wherry.engine.build.mounts import Mounts, Offered, Wanted
from wherry.engine.build.session import BUILD_LABEL, Session, this_process
from wherry.engine.build.stagetree import StageTree
from wherry.engine.committing import write_changes
from wherry.engine.signals import SIGKILL, SIGWINCH
from wherry.engine.spec import ContainerSpec, LogLimits

if TYPE_CHECKING:
    from wherry.engine.engine import Engine

Whole = tuple[Checksum, Checksum]
"""Dirtree and dirmeta of a root."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One RUN, ready."""

    args: tuple[str, ...]
    env: Mapping[str, str]
    user: str
    network: str
    wanted: Wanted


@dataclass(frozen=True, slots=True, kw_only=True)
class Runner:
    """How RUN steps are carried out."""

    engine: Engine
    session: Session
    offered: Offered = field(default_factory=Offered)
    template: ContainerSpec = field(default_factory=ContainerSpec)
    """Limits, hosts and what else the caller asks for, for every container."""
    stdout_fd: int = 2
    note: Callable[[str], None] = lambda text: None

    def network_of(self, word: str) -> str:
        """Returns the network of a RUN that says ``--network=WORD``; ``default`` is the caller's."""
        return self.template.network if word == "default" else word

    def run(self, root: Whole, step: Step, remember: Callable[[Whole], object]) -> int:
        """Runs a command over a root; returns its exit status.

        Args:
            root: of the stage.
            step: the command.
            remember: is told of the root after it, in one transaction with its objects; not after a failure.

        Raises:
            KeyboardInterrupt: this process was told to end.
        """
        commit = self.session.commit(*root, step.wanted.platform)
        mounts = Mounts(self.engine.paths, self.session, step.wanted, self.offered)
        env = dict(step.env)
        with self.session.paused(), mounts.ready(env) as found:
            info = self.engine.create(
                replace(
                    self.template,
                    image=commit,
                    entrypoint=step.args[:1],
                    args=step.args[1:],
                    env=env,
                    user=step.user or "0",
                    working_dir=step.wanted.workdir,
                    network=self.network_of(step.network),
                    mounts=tuple(found),
                    log=LogLimits(driver="none"),
                    labels={BUILD_LABEL: this_process()},
                    hostname="buildkitsandbox",
                    # a command of a user may become root's, by sudo: it gets no more than a RUN of root's has
                    no_new_privileges=False,
                )
            )
            try:
                status = self._run(info.id)
                if not status:
                    with self.session.repo.transaction():
                        changed = write_changes(
                            self.engine.paths, self.session.repo, self.engine.inspect(info.id), self.note
                        )
                        remember(self._without_mount_points(root, changed, [mount.target for mount in found]))
                return status
            finally:
                self.engine.remove(info.id, force=True)

    def _run(self, container_id: str) -> int:
        """Runs a container to its end; a signal to this process ends both."""
        from wherry.engine.foreground import run_in_foreground

        came: list[int] = []

        def kill(number: int) -> int:
            if number == SIGWINCH:
                return number
            came.append(number)
            return SIGKILL  # a shell that is the first process takes no notice of SIGINT

        status = run_in_foreground(
            self.engine.paths,
            self.engine.store,
            container_id,
            stdin_fd=None,
            stdout_fd=self.stdout_fd,
            stderr_fd=self.stdout_fd,
            terminal_fd=None,
            detach_keys=None,
            signal_as=kill,
        )
        if came:
            raise KeyboardInterrupt
        return status

    def _without_mount_points(self, root: Whole, changed: Whole, targets: list[str]) -> Whole:
        """Takes out empty folders that were not there before, above and at what was mounted."""
        repo = self.session.repo
        before, after = StageTree(repo, *root), StageTree(repo, *changed)
        dirty = False
        for target in targets:
            path = target.strip("/")
            while path and before.lookup(path) is None:
                if after.is_directory(path):
                    if after.names(path):
                        break
                    after.remove(path)
                    dirty = True
                path = path.rpartition("/")[0]
        return after.write() if dirty else changed
