"""What a RUN sees beside its root (``--mount``), made ready in private folders that go with it.

::

    RUN/build/<process>-<random>/                   secrets and scripts: /run is in memory; gone with the step
    ROOT/build-cache/tmp/<process>-<random>/        what is bound: a copy, or links that cannot be written to
    ROOT/build-cache/mounts/<sha256 of the id>/     a cache mount
    ROOT/build-cache/mounts/.lock-<...>             held while a command uses it, alone unless sharing=shared

Secrets are in no layer, key, argument or log. What is written to a bind mount goes with it.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from wherry.core.durable import make_dirs, map_os_error
from wherry.core.errors import InvalidInput, NotFound, Unsupported
from wherry.engine.build.session import Session, laid_out_folder, private_folder, this_process
from wherry.engine.build.stagetree import StageTree, require
from wherry.engine.removing import remove_tree
from wherry.image.dockerfile.mounts import BindMount, CacheMount, RunMount, SecretMount, SshMount, TmpfsMount
from wherry.image.dockerfile.runs import SCRIPT_FOLDER
from wherry.linux import usernamespace
from wherry.spec.container import Mount, MountType

if TYPE_CHECKING:
    from wherry.core.digest import Checksum
    from wherry.engine.state import Paths

MAX_SECRET_BYTES = 500 * 1024
"""As docker's."""
MAX_PRIVATE = 64
_AGENT = "/run/buildkit/ssh_agent.{}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Secret:
    """A secret of the caller: a file, or a value that it has read from its environment."""

    path: Path | None = None
    value: bytes = field(default=b"", repr=False)

    def read(self) -> bytes:
        """Returns its bytes.

        Raises:
            InvalidInput: there are too many.
        """
        if self.path is None:
            return self.value
        with self.path.open("rb") as file:
            data = file.read(MAX_SECRET_BYTES + 1)
        if len(data) > MAX_SECRET_BYTES:
            raise InvalidInput(f"a secret is longer than {MAX_SECRET_BYTES} bytes", where=self.path)
        return data


@dataclass(frozen=True, slots=True, kw_only=True)
class Offered:
    """What the caller of a build offers to its mounts."""

    secrets: Mapping[str, Secret] = field(default_factory=dict)
    agents: Mapping[str, str] = field(default_factory=dict)
    """Sockets of SSH agents by their ids."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """The mounts of one RUN."""

    mounts: tuple[RunMount, ...] = ()
    sources: Mapping[str, StageTree] = field(default_factory=dict)
    """What the names after ``from`` lead to; "" is the build context."""
    script: tuple[str, str] = ("", "")
    """Name and content of a file in `SCRIPT_FOLDER`."""
    workdir: str = "/"
    platform: str = ""
    where: str = ""
    """File and line, for errors."""


class Mounts:
    """The mounts of one RUN, made ready in two steps: what is read from the store, then what is locked and laid out.

    Args:
        paths: of the engine root.
        session: the build's.
        wanted: the mounts.
        offered: secrets and agents.
    """

    def __init__(self, paths: Paths, session: Session, wanted: Wanted, offered: Offered) -> None:
        self._paths, self._session, self._wanted, self._offered = paths, session, wanted, offered
        self._top = Path(paths.root) / "build-cache"
        self._commits: dict[str, Checksum] = {}
        for mount in wanted.mounts:
            name = mount.from_ if isinstance(mount, BindMount | CacheMount) else None
            if name is not None and name in wanted.sources and name not in self._commits:
                self._commits[name] = session.commit(*wanted.sources[name].write(), wanted.platform)

    @contextmanager
    def ready(self, env: dict[str, str]) -> Iterator[list[Mount]]:
        """Gives the mounts; what they need is there meanwhile. Variables that they set are added to `env`."""
        with ExitStack() as stack:
            small = stack.enter_context(_folder(private_folder(self._paths)))
            found = []
            for number, mount in enumerate(self._wanted.mounts):
                made = self._mount(stack, small / str(number), mount, env, number)
                if made is not None:
                    found.append(made)
            if self._wanted.script[0]:
                found.append(_script(small / "script", self._wanted.script))
            yield found

    def _mount(self, stack: ExitStack, small: Path, mount: RunMount, env: dict[str, str], number: int) -> Mount | None:
        target = self._absolute(mount.target)
        match mount:
            case TmpfsMount():
                return Mount(type=MountType.TMPFS, target=target, tmpfs_size_bytes=mount.size_bytes or None)
            case BindMount():
                source = self._lay_out(stack.enter_context(_folder(laid_out_folder(self._paths))), mount)
                return Mount(type=MountType.BIND, source=str(source), target=target, read_only=mount.read_only)
            case CacheMount():
                folder = stack.enter_context(self._cache(mount))
                return Mount(type=MountType.BIND, source=str(folder), target=target, read_only=mount.read_only)
            case SecretMount():
                return self._secret(small, mount, env)
            case SshMount():
                return self._agent(mount, env, number)

    def _absolute(self, path: str) -> str:
        return path if path.startswith("/") or not path else f"{self._wanted.workdir.rstrip('/')}/{path}"

    def _lay_out(self, folder: Path, mount: BindMount | CacheMount) -> Path:
        """Lays a tree, or a part of one, out as files; returns the file or directory that was asked for."""
        from wherry.store.tree.checkout import checkout

        tree = self._wanted.sources[mount.from_]
        real = tree.follow(mount.source)
        found = require(tree, real, where=self._wanted.where)
        laid = folder / "tree"
        checkout(
            self._session.repo,
            self._commits[mount.from_],
            laid,
            subpath=f"/{real}",
            user_mode=usernamespace.has_one_id(),
            force_copy=not mount.read_only,  # what is written must not reach the store's own files
        )
        return laid / real.rpartition("/")[2] if isinstance(found, str) else laid

    # --- caches

    @contextmanager
    def _cache(self, mount: CacheMount) -> Iterator[Path]:
        top = self._top / "mounts"
        make_dirs(top, mode=0o700)
        first = f"{mount.id}\0{self._commits_tree(mount)}" if mount.from_ else mount.id
        name = hashlib.sha256(first.encode()).hexdigest()
        if mount.sharing == "private":
            name, lock = _first_free(top, name)
        else:
            lock = _lock(top, name, fcntl.LOCK_EX)  # alone for as long as it is made
        try:
            folder = top / name
            if not folder.exists():
                self._begin_cache(top, folder, mount)
            if mount.sharing == "shared":
                fcntl.flock(lock, fcntl.LOCK_SH)
            yield folder
        finally:
            os.close(lock)

    def _commits_tree(self, mount: CacheMount) -> str:
        tree = self._wanted.sources[mount.from_]
        return " ".join((*tree.write(), mount.source))

    def _begin_cache(self, top: Path, folder: Path, mount: CacheMount) -> None:
        """Makes the folder of a cache mount: empty, or a copy of what it begins as; there at once or not at all."""
        with _folder(laid_out_folder(self._paths)) as new:
            if mount.from_:
                made = self._lay_out(new, mount)
                if not made.is_dir():
                    raise InvalidInput("a cache mount is a directory, not a file", where=self._wanted.where)
            else:
                made = new / "cache"
                made.mkdir()
                _own(made, mount.uid, mount.gid, self._wanted.where)
                made.chmod(mount.mode)
            made.rename(folder)

    # --- secrets and agents

    def _secret(self, file: Path, mount: SecretMount, env: dict[str, str]) -> Mount | None:
        secret = self._offered.secrets.get(mount.id)
        if secret is None:
            if mount.required:
                hint = f"give it: --secret id={mount.id},src=FILE"
                raise NotFound(f"no secret {mount.id!r}", where=self._wanted.where, hint=hint)
            return None
        data = secret.read()
        if mount.env:
            env[mount.env] = data.decode(errors="surrogateescape")
        if not mount.target:
            return None
        fd = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(fd, "wb") as opened:
            opened.write(data)
        _own(file, mount.uid, mount.gid, self._wanted.where)
        file.chmod(mount.mode)
        return Mount(type=MountType.BIND, source=str(file), target=self._absolute(mount.target), read_only=True)

    def _agent(self, mount: SshMount, env: dict[str, str], number: int) -> Mount | None:
        socket = self._offered.agents.get(mount.id)
        if socket is None:
            if mount.required:
                raise NotFound(f"no SSH agent {mount.id!r}", where=self._wanted.where, hint="give it with --ssh")
            return None
        target = self._absolute(mount.target) or _AGENT.format(number)
        env.setdefault("SSH_AUTH_SOCK", target)
        return Mount(type=MountType.BIND, source=socket, target=target)


def _script(folder: Path, script: tuple[str, str]) -> Mount:
    folder.mkdir(mode=0o755)
    file = folder / script[0]
    file.write_text(script[1])
    file.chmod(0o755)
    return Mount(type=MountType.BIND, source=str(folder), target=SCRIPT_FOLDER, read_only=True)


@contextmanager
def _folder(above: Path) -> Iterator[Path]:
    """Gives a private folder of this process's, which `session.sweep` knows should the process be killed."""
    make_dirs(above, mode=0o700)
    folder = above / f"{this_process()}-{os.urandom(8).hex()}"
    folder.mkdir(mode=0o700)
    try:
        yield folder
    finally:
        remove_tree(str(folder))


def _own(path: Path, uid: int, gid: int, where: str) -> None:
    try:
        os.chown(path, uid, gid)
    except OSError as error:
        if error.errno in (errno.EINVAL, errno.EPERM):
            raise Unsupported(
                f"this user may not have files of {uid}:{gid}", where=where, hint="see subuid(5), or leave uid= out"
            ) from error
        raise map_os_error(error, "cannot give a file to its owner", where=path) from error


def _lock(top: Path, name: str, how: int) -> int:
    lock = os.open(top / f".lock-{name}", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, how)
    except BaseException:
        os.close(lock)
        raise
    return lock


def _first_free(top: Path, name: str) -> tuple[str, int]:
    """Returns the first of several folders that nobody uses now, and its lock."""
    for number in range(MAX_PRIVATE):
        try:
            return f"{name}-{number}", _lock(top, f"{name}-{number}", fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            continue
    raise Unsupported(f"more than {MAX_PRIVATE} builds use one private cache mount")


def remove_cache_mounts(root: Path) -> int:
    """Removes every cache mount that no build uses now; returns the bytes that they had."""
    from wherry.engine.disk import tree_bytes

    top = root / "build-cache/mounts"
    freed = 0
    for name in sorted(os.listdir(top)) if top.is_dir() else ():
        if name.startswith("."):
            continue
        try:
            lock = _lock(top, name, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            continue
        try:
            freed += tree_bytes(str(top / name))
            remove_tree(str(top / name))
        finally:
            os.close(lock)
    return freed
