"""RUN: a container over the root of a stage, and what it changed, folded into a new root.

The container is one as any other, with docker's policy of capabilities and system calls, and is gone afterwards.
Mounts are made ready in a private folder that goes with it: secrets are files there for as long as the command runs,
and are in no layer, key, argument or log. Empty folders that only held a mount are taken out of the root again.

::

    ROOT/build-cache/mounts/<sha256 of the id>/     a cache mount; .lock-<...> beside it for sharing=locked
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from wherry.core.digest import Checksum, Ref
from wherry.core.durable import make_dirs
from wherry.core.errors import InvalidInput, NotFound, Unsupported
from wherry.engine.build.stagetree import StageTree, require
from wherry.engine.committing import write_changes
from wherry.engine.spec import ContainerSpec, LogLimits
from wherry.image.catalog import CONFIG_KEY, DIGEST_KEY, REFERENCE_KEY, SIZE_KEY
from wherry.image.config import make_config
from wherry.image.dockerfile.mounts import BindMount, CacheMount, RunMount, SecretMount, SshMount, TmpfsMount
from wherry.image.recording import tree_digest
from wherry.spec.container import Mount, MountType

if TYPE_CHECKING:
    from wherry.engine.engine import Engine
    from wherry.store.repository import Repository

BUILD_LABEL = "io.wherry.build"
"""On containers of RUN: which process builds."""
STEP_PREFIX = "build-step"
"""Of refs to roots that containers of a build are made from; they go with the build, or with the next `tidy`."""
_AGENT = "/run/buildkit/ssh_agent.{}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Secret:
    """A secret of the caller: a file, or a value that it has read from its environment."""

    path: Path | None = None
    value: bytes = field(default=b"", repr=False)

    def read(self, max_bytes: int) -> bytes:
        """Returns its bytes.

        Raises:
            InvalidInput: there are too many.
        """
        if self.path is None:
            return self.value
        with self.path.open("rb") as file:
            data = file.read(max_bytes + 1)
        if len(data) > max_bytes:
            raise InvalidInput(f"a secret is longer than {max_bytes} bytes", where=self.path)
        return data


MAX_SECRET_BYTES = 500 * 1024
"""As docker's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One RUN, ready."""

    args: tuple[str, ...]
    env: Mapping[str, str]
    user: str
    workdir: str
    network: str
    platform: str
    mounts: tuple[RunMount, ...] = ()
    sources: Mapping[str, StageTree] = field(default_factory=dict)
    """What the names after ``from`` lead to; "" is the build context."""
    script: tuple[str, str] = ("", "")
    """Name and content of a file in /dev/pipes."""
    where: str = ""
    """File and line, for errors."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Runner:
    """How RUN steps are carried out."""

    engine: Engine
    repo: Repository
    secrets: Mapping[str, Secret] = field(default_factory=dict)
    agents: Mapping[str, str] = field(default_factory=dict)
    """Sockets of SSH agents by their ids."""
    add_hosts: tuple[str, ...] = ()
    network: str = ""
    """In the place of ``default``."""
    stdout_fd: int = 2
    note: Callable[[str], None] = lambda text: None
    made: list[Ref] = field(default_factory=list)
    """The refs of the steps' roots; `forget_steps` takes them away."""

    def run(self, tree: Checksum, meta: Checksum, step: Step) -> tuple[int, tuple[Checksum, Checksum]]:
        """Runs a command over a root.

        Returns:
            Its exit status, and dirtree and dirmeta of the root after it.
        """
        commit = self._commit(tree, meta, step.platform)
        with ExitStack() as stack:
            env = dict(step.env)
            scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="wherry-build-")))
            os.chmod(scratch, 0o700)
            mounts = [
                made
                for number, mount in enumerate(step.mounts)
                if (made := self._mount(stack, scratch / str(number), mount, step, env, number)) is not None
            ]
            if step.script[0]:
                mounts.append(self._script(scratch / "script", step.script))
            info = self.engine.create(
                ContainerSpec(
                    image=commit,
                    entrypoint=step.args[:1],
                    args=step.args[1:],
                    env=env,
                    user=step.user or "0",
                    working_dir=step.workdir,
                    network={"default": self.network or "bridge"}.get(step.network, step.network),
                    mounts=tuple(mounts),
                    add_hosts=self.add_hosts,
                    log=LogLimits(driver="none"),
                    labels={BUILD_LABEL: _this_process()},
                    hostname="buildkitsandbox",
                )
            )
            try:
                status = self.engine.start_attached(
                    info.id, stdin_fd=None, stdout_fd=self.stdout_fd, stderr_fd=self.stdout_fd, terminal_fd=None
                )
                if status:
                    return status, (tree, meta)
                with self.repo.transaction():
                    changed = write_changes(self.engine.paths, self.repo, self.engine.inspect(info.id), self.note)
                    return 0, self._without_mount_points(tree, meta, changed, [mount.target for mount in mounts])
            finally:
                self.engine.remove(info.id, force=True)

    def _commit(self, tree: Checksum, meta: Checksum, platform: str) -> Checksum:
        """Makes a commit that a container can be made from, without settings that would be in the way of a build."""
        from wherry.store.tree.commit import commit_tree

        os_name, _, rest = platform.partition("/")
        architecture, _, variant = rest.partition("/")
        config = make_config({"os": os_name, "architecture": architecture, "variant": variant, "config": {}})
        ref = Ref(f"{STEP_PREFIX}/{_this_process()}-{os.urandom(16).hex()}")
        self.made.append(ref)
        return commit_tree(
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
            },
        )

    # --- mounts

    def _mount(
        self, stack: ExitStack, folder: Path, mount: RunMount, step: Step, env: dict[str, str], number: int
    ) -> Mount | None:
        target = _absolute(getattr(mount, "target", ""), step.workdir)
        match mount:
            case TmpfsMount():
                return Mount(type=MountType.TMPFS, target=target, tmpfs_size_bytes=mount.size_bytes or None)
            case BindMount():
                return self._bind(folder, mount, step, target)
            case CacheMount():
                source = stack.enter_context(self._cache(mount, step))
                return Mount(type=MountType.BIND, source=str(source), target=target, read_only=mount.read_only)
            case SecretMount():
                return self._secret(folder, mount, step, env)
            case SshMount():
                socket = self.agents.get(mount.id)
                if socket is None:
                    if mount.required:
                        raise NotFound(f"no SSH agent {mount.id!r}", where=step.where, hint="give it with --ssh")
                    return None
                target = mount.target or _AGENT.format(number)
                env.setdefault("SSH_AUTH_SOCK", target)
                return Mount(type=MountType.BIND, source=socket, target=target)

    def _bind(self, folder: Path, mount: BindMount, step: Step, target: str) -> Mount:
        from wherry.store.tree.checkout import checkout

        tree = step.sources[mount.from_]
        real = tree.follow(mount.source)
        found = require(tree, real, where=step.where)
        written, meta = tree.write()
        commit = self._commit(written, meta, step.platform)
        laid = folder / "tree"
        folder.mkdir()
        checkout(self.repo, commit, laid, subpath=f"/{real}")
        source = laid / real.rpartition("/")[2] if isinstance(found, str) else laid
        return Mount(type=MountType.BIND, source=str(source), target=target, read_only=mount.read_only)

    @contextmanager
    def _cache(self, mount: CacheMount, step: Step) -> Iterator[Path]:
        if mount.from_:
            raise Unsupported("a cache mount that begins as a copy (from=)", where=step.where, hint="COPY it in a RUN")
        name = hashlib.sha256(mount.id.encode()).hexdigest()
        top = Path(self.engine.paths.root) / "build-cache/mounts"
        make_dirs(top, mode=0o700)
        if mount.sharing == "private":
            name = self._private_name(top, name)
        lock = os.open(top / f".lock-{name}", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_SH if mount.sharing == "shared" else fcntl.LOCK_EX)
            folder = top / name
            if not folder.exists():
                folder.mkdir()
                os.chown(folder, mount.uid, mount.gid)
                folder.chmod(mount.mode)
            yield folder
        finally:
            os.close(lock)

    def _private_name(self, top: Path, name: str) -> str:
        """Returns the first of several folders that nobody uses now."""
        for number in range(64):
            lock = os.open(top / f".lock-{name}-{number}", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return f"{name}-{number}"
            except BlockingIOError:
                continue
            finally:
                os.close(lock)
        raise Unsupported("more than 64 builds use one private cache mount")

    def _secret(self, folder: Path, mount: SecretMount, step: Step, env: dict[str, str]) -> Mount | None:
        secret = self.secrets.get(mount.id)
        if secret is None:
            if mount.required:
                hint = f"give it: --secret id={mount.id},src=FILE"
                raise NotFound(f"no secret {mount.id!r}", where=step.where, hint=hint)
            return None
        data = secret.read(MAX_SECRET_BYTES)
        if mount.env:
            env[mount.env] = data.decode(errors="surrogateescape")
        if not mount.target:
            return None
        fd = os.open(folder, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(fd, "wb") as file:
            file.write(data)
            os.fchown(file.fileno(), mount.uid, mount.gid)
            os.fchmod(file.fileno(), mount.mode)
        target = _absolute(mount.target, step.workdir)
        return Mount(type=MountType.BIND, source=str(folder), target=target, read_only=True)

    def _script(self, path: Path, script: tuple[str, str]) -> Mount:
        path.mkdir(mode=0o755)
        file = path / script[0]
        file.write_text(script[1])
        file.chmod(0o755)
        return Mount(type=MountType.BIND, source=str(path), target="/dev/pipes", read_only=True)

    def _without_mount_points(
        self, tree: Checksum, meta: Checksum, changed: tuple[Checksum, Checksum], targets: list[str]
    ) -> tuple[Checksum, Checksum]:
        """Takes out empty folders that were not there before, above and at what was mounted."""
        before, after = StageTree(self.repo, tree, meta), StageTree(self.repo, *changed)
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


def forget_steps(repo: Repository, steps: Iterable[Ref]) -> None:
    """Takes away the roots that containers of a build were made from."""
    from wherry.store.care.prune import prune

    found = repo.refs(STEP_PREFIX)
    doomed = {ref: found[ref] for ref in steps if ref in found}
    if not doomed:
        return
    with repo.transaction() as transaction:
        for ref in doomed:
            transaction.set_ref(ref, None)
    prune(repo, delete_commits=set(doomed.values()) - set(repo.refs().values()), commit_only=True)


def sweep(engine: Engine, repo: Repository) -> None:
    """Removes what builds have left whose process ended early: containers, and the roots that they were made from."""
    for info in engine.list():
        if (process := info.labels.get(BUILD_LABEL)) and not _is_alive(process):
            engine.remove(info.id, force=True)
    forget_steps(repo, [ref for ref in repo.refs(STEP_PREFIX) if not _is_alive(ref.rpartition("/")[2])])


def _this_process() -> str:
    """Returns what names this process also after another has got its number: number and time of start."""
    return f"{os.getpid()}-{_started(os.getpid())}"


def _started(pid: int) -> str:
    """Returns when a process was started, in the kernel's ticks; "" when there is none (proc_pid_stat(5), field 22)."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""
    return text.rpartition(")")[2].split()[19]


def _is_alive(name: str) -> bool:
    pid, _, rest = name.partition("-")
    return pid.isdigit() and _started(int(pid)) == rest.partition("-")[0] != ""


def remove_cache_mounts(root: Path) -> int:
    """Removes every cache mount; returns the bytes that they had."""
    top = root / "build-cache/mounts"
    freed = 0
    for folder, _, files in os.walk(top):
        for name in files:
            status = os.lstat(os.path.join(folder, name))
            freed += status.st_blocks * 512 if stat.S_ISREG(status.st_mode) else 0
    if top.is_dir():
        shutil.rmtree(top)
    return freed


def _absolute(path: str, workdir: str) -> str:
    return path if path.startswith("/") or not path else f"{workdir.rstrip('/')}/{path}"
