"""Takes the steps of a plan: those whose results are not kept already, and only those that something needs.

::

    CACHE/                       shared by all builds of this machine
      results/KEY/               a result: never changed once it is there; its mtime tells when it was used last
        output/                  what the step made
        result.json              what it was, how long it took, how large it is, what a person should know of it
      locks/KEY                  held by whoever makes it; two builds that need one result make it once
      downloads/                 what was fetched, by digest
      new/KEY.*/                 what is being made; whatever is older than its lock's holder is rubbish
    WORKSPACE/.wherry/
      logs/STEP.log              of the step's last run
      kept/STEP/                 for incremental work (`steps.Place.kept`)
      sandbox/STEP/              the bundle of its last program
      failed/STEP/               what a failed step had made, for ``wherry host shell``

A result is published by one rename(2), after everything in it was synced. Promised is that a result whose folder is
there is whole; not promised is that it stays: ``wherry host clean`` removes results at any time, and waits for builds
that use them, which hold a shared lock on ``CACHE/in-use``.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from wherry.build.place import Failed, StepPlace
from wherry.core import trace
from wherry.core.durable import fsync_dir, make_dirs, map_os_error, write_file
from wherry.core.errors import NotFound, ToolError, WherryError
from wherry.core.jsonio import loads, pretty
from wherry.core.lock import file_lock
from wherry.core.progress import QUIET, Progress
from wherry.linux.syncfs import syncfs

if TYPE_CHECKING:
    from wherry.build.steps import Plan, Step


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """The result of a step."""

    step: Step
    key: str
    path: Path
    """Its ``output``."""
    cached: bool
    """Whether it was there already."""
    seconds: float
    """That it took to make, now or then."""
    size_bytes: int
    started_s: float = 0.0
    """After the beginning of this build; 0 for one that was there."""
    warnings: tuple[str, ...] = ()
    """What a person should know of it."""


class Watcher(Protocol):
    """Somebody who watches a build."""

    def begins(self, step: Step, number: int, count: int) -> None:
        """A step begins, the `number`th (from one) of at most `count`."""

    def says(self, step: Step, line: str) -> None:
        """A line came into a step's log."""

    def ends(self, result: Result) -> None:
        """A step is done, or its result was there."""

    def close(self) -> None:
        """There is no more to see."""


class _Nobody:
    def begins(self, step: Step, number: int, count: int) -> None:
        """Does nothing."""

    def says(self, step: Step, line: str) -> None:
        """Does nothing."""

    def ends(self, result: Result) -> None:
        """Does nothing."""

    def close(self) -> None:
        """Does nothing."""


NOBODY: Watcher = _Nobody()


class StepFailed(ToolError):
    """A step failed; it has the step, its log and the end of what was printed."""

    def __init__(self, step: Step, log: Path, cause: WherryError) -> None:
        blamed = f" (of layer {step.layer})" if step.layer else ""
        super().__init__(f"step {step.name}{blamed} failed: {cause}")
        self.exit_code = cause.exit_code
        self.step = step
        self.log = log
        self.tail = cause.tail if isinstance(cause, Failed) else ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Execution:
    """How and where the steps of a workspace are taken."""

    cache: Path
    work: Path
    """The workspace's ``.wherry``."""
    epoch: int = 0
    progress: Progress = QUIET
    watcher: Watcher = NOBODY
    force: frozenset[str] = frozenset()
    """Steps that are taken again though their results are there."""
    _started_s: float = field(default_factory=time.monotonic)

    def take(self, plan: Plan, wanted: Iterable[str]) -> dict[str, Result]:
        """Takes what is needed for some steps; returns the results of all that were looked at, by name, in order.

        Raises:
            StepFailed: one failed.
            Locked, NoSpace, NotPermitted: the cache cannot be written to.
        """
        for folder in (*(self.cache / name for name in ("results", "locks", "downloads", "new")), self.work / "logs"):
            make_dirs(folder)
        keys = plan.keys()
        results: dict[str, Result] = {}
        order = [step.name for step in plan.steps]

        def need(name: str) -> None:
            if name in results:
                return
            step = plan.step(name)
            found = None if name in self.force else self.kept(step, keys[name])
            if found is None:
                for other in step.needs:
                    need(other)
                self.watcher.begins(step, order.index(name) + 1, len(order))
                found = self._make(step, keys[name], {other: results[other] for other in step.needs})
            results[name] = found
            self.watcher.ends(found)

        with file_lock(self.cache / "in-use", shared=True, what="the build cache"):
            for name in sorted(set(wanted), key=order.index):
                need(name)
        return {name: results[name] for name in order if name in results}

    def log(self, step: str) -> Path:
        """Returns where the log of a step's last run is."""
        return self.work / "logs" / f"{step}.log"

    def folder(self, key: str) -> Path:
        """Returns where the result of a key is, if it is kept."""
        return self.cache / "results" / key

    def kept(self, step: Step, key: str) -> Result | None:
        """Returns the kept result of a step; None where there is none."""
        folder = self.folder(key)
        if not step.kept:
            return None
        try:
            said = loads((folder / "result.json").read_bytes(), where=folder)
            os.utime(folder)
        except FileNotFoundError:
            return None
        return Result(
            step=step,
            key=key,
            path=folder / "output",
            cached=True,
            seconds=said["milliseconds"] / 1000,
            size_bytes=said["size_bytes"],
            warnings=tuple(said.get("warnings", ())),
        )

    def _make(self, step: Step, key: str, needed: dict[str, Result]) -> Result:
        with file_lock(self.cache / "locks" / key, what=f"the result of step {step.name}"):
            found = None if step.name in self.force else self.kept(step, key)
            return found or self._run(step, key, needed)

    def _run(self, step: Step, key: str, needed: dict[str, Result]) -> Result:
        began = time.monotonic()
        with _mapped("cannot make the folders of a step", self.cache):
            for left in (self.cache / "new").glob(f"{key}.*"):
                remove_tree(left)
            new = Path(tempfile.mkdtemp(prefix=f"{key}.", dir=self.cache / "new"))
            os.chmod(new, 0o755)  # noqa: S103 what mkdtemp makes is for its owner alone
            kept = self.work / "kept" / step.name
            for folder in (new / "output", new / "scratch", kept):
                folder.mkdir(parents=True, exist_ok=True)
            remove_tree(self.work / "failed" / step.name)
        try:
            with open(self.log(step.name), "wb") as log:
                place = StepPlace(
                    output=new / "output",
                    scratch=new / "scratch",
                    kept=kept,
                    downloads=self.cache / "downloads",
                    bundle=self.work / "sandbox" / step.name,
                    log=log,
                    inputs={name: result.path for name, result in needed.items()},
                    network=step.network,
                    makes_roots=step.makes_roots,
                    epoch=self.epoch,
                    progress=self.progress,
                    heard=lambda line: self.watcher.says(step, line),
                )
                try:
                    with _mapped(f"step {step.name}", None):
                        step.work(place)
                except WherryError as error:
                    place.say(f"failed: {error}")
                    raise
        except WherryError as error:
            self._keep_failed(step, new)
            raise StepFailed(step, self.log(step.name), error) from error
        except BaseException:
            remove_tree(new)
            raise
        return self._publish(step, key, new, began, tuple(place.warnings))

    def _keep_failed(self, step: Step, new: Path) -> None:
        target = self.work / "failed" / step.name
        remove_tree(target)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(new, target)

    def _publish(self, step: Step, key: str, new: Path, began: float, warnings: tuple[str, ...]) -> Result:
        with _mapped("cannot keep the result of a step", self.folder(key)):
            remove_tree(new / "scratch")
            seconds = time.monotonic() - began
            size = size_of(new / "output")
            document = {
                "step": step.name,
                "what": step.what,
                "inputs": dict(step.inputs),
                "milliseconds": int(seconds * 1000),
                "size_bytes": size,
                "warnings": warnings,
            }
            write_file(new / "result.json", pretty(document).encode())
            syncfs(new)
            trace.reach("build.step.publish")
            target = self.folder(key)
            remove_tree(target)
            os.rename(new, target)
            fsync_dir(target.parent)
        return Result(
            step=step,
            key=key,
            path=target / "output",
            cached=False,
            seconds=seconds,
            size_bytes=size,
            started_s=began - self._started_s,
            warnings=warnings,
        )

    def place(self, step: Step, needed: Mapping[str, Path], top: Path, *, log: str = "") -> StepPlace:
        """Returns a place of a step for work that is none of a plan's: with what it keeps, and nothing is kept else.

        Args:
            step: which.
            needed: the results of the steps that it needs.
            top: an empty folder.
            log: of which name, among those of steps; "" for none.
        """
        kept = self.work / "kept" / step.name
        with _mapped("cannot make the folders of a step", top):
            for folder in (top / "output", top / "scratch", kept, self.cache / "downloads", self.work / "logs"):
                folder.mkdir(parents=True, exist_ok=True)
        return StepPlace(
            output=top / "output",
            scratch=top / "scratch",
            kept=kept,
            downloads=self.cache / "downloads",
            bundle=top / "sandbox",
            log=open(self.log(log) if log else os.devnull, "wb"),
            inputs=needed,
            network=step.network,
            makes_roots=step.makes_roots,
            epoch=self.epoch,
            progress=self.progress,
            heard=lambda line: self.watcher.says(step, line),
        )

    def again(self, step: Step, results: Mapping[str, Path]) -> StepPlace:
        """Returns a place of a failed step as it was left, for a person to look around in.

        Args:
            step: which.
            results: where those of all steps are, of which it gets what it needs.

        Raises:
            NotFound: it has not failed.
        """
        failed = self.work / "failed" / step.name
        if not failed.is_dir():
            raise NotFound(f"step {step.name} has not failed", hint="`wherry host shell` without a step")
        return StepPlace(
            output=failed / "output",
            scratch=failed / "scratch",
            kept=self.work / "kept" / step.name,
            downloads=self.cache / "downloads",
            bundle=self.work / "sandbox" / step.name,
            log=open(os.devnull, "wb"),
            inputs={name: results[name] for name in step.needs if results[name].is_dir()},
            network=step.network,
            makes_roots=step.makes_roots,
            epoch=self.epoch,
        )


class _mapped:  # noqa: N801 a context manager, read as a word
    """Turns an OSError of a block into one of Wherry's."""

    def __init__(self, what: str, where: object) -> None:
        self._what, self._where = what, where

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _trace: object) -> None:
        if isinstance(error, OSError):
            raise map_os_error(error, self._what, where=self._where or error.filename) from error


def remove_tree(path: Path) -> None:
    """Removes a folder with all in it, if it is there.

    Raises:
        OSError: something in it cannot be removed.
    """
    if not os.path.lexists(path):
        return

    def again(function: Callable[[str], object], name: str, _error: object) -> None:
        os.chmod(os.path.dirname(name), 0o700)  # a folder that forbids it, of somebody without root's powers
        function(name)

    shutil.rmtree(path, onerror=again)


def size_of(folder: Path) -> int:
    """Returns the bytes of the files below a folder, each counted once."""
    total = 0
    seen: set[tuple[int, int]] = set()
    for top, _, names in os.walk(folder):
        for name in names:
            status = os.lstat(os.path.join(top, name))
            if status.st_nlink > 1:
                if (status.st_dev, status.st_ino) in seen:
                    continue
                seen.add((status.st_dev, status.st_ino))
            total += status.st_size
    return total


def forget(cache: Path, *, older_than_s: float = 0.0, downloads: bool = False) -> int:
    """Removes kept results that were not used for so long, and with `downloads` what was fetched; returns bytes.

    Waits for builds that use the cache.
    """
    freed = 0
    if not cache.is_dir():
        return 0
    with file_lock(cache / "in-use", what="the build cache"), _mapped("cannot clean the build cache", cache):
        limit = time.time() - older_than_s
        gone = [path for path in (cache / "results").glob("*") if path.stat().st_mtime <= limit]
        gone += list((cache / "new").glob("*")) + list((cache / "locks").glob("*"))
        gone += list((cache / "downloads").glob("*")) if downloads else []
        for path in gone:
            if path.is_dir() and not path.is_symlink():
                freed += size_of(path)
                # first its name, so that a result that is there is whole
                doomed = cache / "new" / f"{path.name}.gone"
                if path.parent.name == "results":
                    os.rename(path, doomed)
                    path = doomed
                remove_tree(path)
            else:
                freed += path.stat().st_size
                path.unlink()
    return freed
