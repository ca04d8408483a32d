"""What a build has in the store while it goes on: nobody may prune it, and nothing of it stays.

::

    refs/heads/build-step/<pid>-<start>-<random>    a tree that this process builds with, as an image

While the build itself works, all is in one transaction, whose lock keeps `prune` away. That would have `prune` wait for
a command that runs for hours; so around each RUN the transaction is ended, and every tree that is needed afterwards is
held by a ref. The refs go with the build; those of a process that was killed are known by its number and time of start,
and `sweep` takes them away, with containers that it left.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from wherry.core.digest import Checksum, Ref
from wherry.engine.removing import remove_tree
from wherry.image.catalog import CONFIG_KEY, DIGEST_KEY, REFERENCE_KEY, SIZE_KEY
from wherry.image.config import make_config
from wherry.image.recording import tree_digest

if TYPE_CHECKING:
    from wherry.engine.build.stagetree import StageTree
    from wherry.engine.engine import Engine
    from wherry.engine.state import Paths
    from wherry.store.repository import Repository

BUILD_LABEL = "io.wherry.build"
"""On containers of RUN: which process builds."""
STEP_PREFIX = "build-step"
_STEP_KEY = "wherry.build.step"
"""In a commit's metadata: makes it this build's own, so that no other build counts on it when it goes."""


class Session:
    """The store in the hands of one build: ``with Session(engine, repo) as session``."""

    def __init__(self, engine: Engine, repo: Repository) -> None:
        self.repo = repo
        self._engine = engine
        self._trees: list[StageTree] = []
        self._held: dict[tuple[Checksum, Checksum], Checksum] = {}
        self._made: dict[Ref, Checksum] = {}
        self._transaction = ExitStack()

    def __enter__(self) -> Session:
        self._begin()
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        try:
            if kind is None:
                self._transaction.close()
            else:
                self._transaction.__exit__(kind, None, None)
        finally:
            forget_steps(self._engine, self.repo, self._made)

    def _begin(self) -> None:
        self._transaction = ExitStack()
        self._transaction.enter_context(self.repo.transaction())

    def hold(self, tree: StageTree) -> StageTree:
        """Keeps a tree, as it is then, over all commands that run from now on; returns it."""
        self._trees.append(tree)
        return tree

    def commit(self, tree: Checksum, meta: Checksum, platform: str) -> Checksum:
        """Makes a commit that a container can be made from, without settings that would be in the way of a build."""
        from wherry.store.tree.commit import commit_tree

        os_name, _, rest = platform.partition("/")
        architecture, _, variant = rest.partition("/")
        config = make_config({"os": os_name, "architecture": architecture, "variant": variant, "config": {}})
        name = f"{this_process()}-{os.urandom(16).hex()}"
        ref = Ref(f"{STEP_PREFIX}/{name}")
        made = commit_tree(
            self.repo,
            tree,
            meta,
            ref=ref,
            bind_ref=False,
            subject="a step of a build",
            timestamp_s=0,
            metadata={
                CONFIG_KEY: config.raw.decode(),
                DIGEST_KEY: tree_digest(config, tree, meta),
                REFERENCE_KEY: "localhost/build:step",
                SIZE_KEY: 0,
                _STEP_KEY: name,
            },
        )
        self._made[ref] = made
        return made

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Ends the transaction for as long as something runs; all that is held is safe by then."""
        for tree in self._trees:
            whole = tree.write()
            if whole not in self._held:
                self._held[whole] = self.commit(*whole, "linux")
        self._transaction.close()
        try:
            yield
        finally:
            self._begin()


def forget_steps(engine: Engine, repo: Repository, steps: Iterable[Ref]) -> None:
    """Takes away the trees that builds have held, and what was mounted of them."""
    from wherry.store.care.prune import prune

    found = repo.refs(STEP_PREFIX)
    doomed = {ref: found[ref] for ref in steps if ref in found}
    if not doomed:
        return
    with repo.transaction() as transaction:
        for ref in doomed:
            transaction.set_ref(ref, None)
    gone = set(doomed.values()) - set(repo.refs().values())
    for commit in gone:
        _forget_mounted(Path(engine.paths.images), commit)
    prune(repo, delete_commits=gone, commit_only=True)


def _forget_mounted(images: Path, commit: Checksum) -> None:
    for suffix in (".erofs", ".json"):
        with suppress(FileNotFoundError):
            (images / f"{commit}{suffix}").unlink()
    if (images / commit).is_dir():
        remove_tree(str(images / commit))


def sweep(engine: Engine, repo: Repository) -> None:
    """Removes what builds have left whose process ended early: containers, trees, and folders of mounts."""
    for info in engine.list():
        if (process := info.labels.get(BUILD_LABEL)) and not is_alive(process):
            engine.remove(info.id, force=True)
    forget_steps(engine, repo, [ref for ref in repo.refs(STEP_PREFIX) if not is_alive(ref.rpartition("/")[2])])
    for folder in (private_folder(engine.paths), laid_out_folder(engine.paths)):
        for name in os.listdir(folder) if folder.is_dir() else ():
            if not is_alive(name):
                remove_tree(str(folder / name))


def private_folder(paths: Paths) -> Path:
    """Returns where secrets are for as long as a command sees them: in memory, as /run is."""
    return Path(paths.run) / "build"


def laid_out_folder(paths: Paths) -> Path:
    """Returns where trees are laid out for as long as a command sees them."""
    return Path(paths.root) / "build-cache/tmp"


def this_process() -> str:
    """Returns what names this process also after another has got its number: number and time of start."""
    return f"{os.getpid()}-{_started(os.getpid())}"


def _started(pid: int) -> str:
    """Returns when a process was started, in the kernel's ticks; "" when there is none (proc_pid_stat(5), field 22)."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""
    return text.rpartition(")")[2].split()[19]


def is_alive(name: str) -> bool:
    """Tells whether the process that a name of `this_process` begins with still runs."""
    pid, _, rest = name.partition("-")
    return pid.isdigit() and _started(int(pid)) == rest.partition("-")[0] != ""
