"""Device deltas on the hub: made in the background, one at a time, kept while there is room, never waited for.

::

    repo/extensions/wherry/deltas/OLD-NEW.wdelta    from one revision and its components to another and its
    repo/extensions/wherry/deltas/OLD-NEW.json      {"objects_bytes": n}: what all objects cost that OLD lacks; alone
                                                    when a delta would not be worth it
    repo/tmp/wherry-hub-deltas/                     where one is being made; emptied at every start

A delta is asked for when a device is ordered to another revision, and when a device asks for one. A process of its
own makes it (``wherry store delta make``), niced, as it takes minutes of processor time and starts others; it ends
with the hub. The files appear by a rename, whole and synced, are served below ``/repo`` like all others, and go when a
commit of theirs is gone, or, the longest unused first, when together they are larger than the limit.

Nothing here is trusted by a device: it knows the revision's commit by its signature, and all else by checksums.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Iterable
from pathlib import Path

from wherry.core import jsonio
from wherry.core.digest import Checksum, is_checksum, short
from wherry.core.durable import fsync_dir, make_dirs, map_os_error, remove_file, write_file
from wherry.core.errors import InvalidInput, ToolError, WherryError
from wherry.revision.load import component_commits, load_revision
from wherry.spec.wire import DELTA_FOLDER, DeltaOffer
from wherry.store.format.objects import Mode, ObjectType, object_name
from wherry.store.repository import Repository
from wherry.store.tree.sizes import object_sizes
from wherry.store.tree.walk import reachable

LEAST_BYTES = 256 * 1024
"""When the missing objects come to less than this, they are as good as a delta."""
MAX_WAITING = 64
MAKE_TIMEOUT_S = 3600.0
LIMIT_BYTES = 2 * 1024**3
_NICE = 19
_GOES_FIRST = "800"
_MAX_NOTE_BYTES = 4096
_MAX_TOLD_CHARS = 500
_END_S = 10.0
_NAME = re.compile(r"([0-9a-f]{64})-([0-9a-f]{64})\.(?:wdelta|json)\Z")

Pair = tuple[Checksum, Checksum]
log = logging.getLogger("wherry.hub")


class Deltas:
    """The deltas of one hub.

    Args:
        repo: the hub's repository.
        limit_bytes: what all of them may take; 0: none are made.
    """

    def __init__(self, repo: Repository, *, limit_bytes: int = LIMIT_BYTES) -> None:
        self._repo = repo
        self._limit_bytes = limit_bytes
        self._folder = repo.path / DELTA_FOLDER
        self._scratch = repo.path / "tmp" / "wherry-hub-deltas"
        self._changed = threading.Condition()
        self._waiting: deque[Pair] = deque()
        self._failed: set[Pair] = set()
        self._used_s: dict[Pair, float] = {}
        self._thread: threading.Thread | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._closed = False

    def start(self) -> None:
        """Begins to make what is asked for; the thread must live as long as the hub, as its processes end with it."""
        if self._limit_bytes and self._thread is None:
            shutil.rmtree(self._scratch, ignore_errors=True)
            self._thread = threading.Thread(target=self._run, name="deltas", daemon=True)
            self._thread.start()

    def close(self) -> None:
        """Ends what is being made."""
        with self._changed:
            self._closed = True
            if self._process is not None:
                self._process.terminate()
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join(_END_S)

    def wish(self, old: str | None, new: str | None) -> None:
        """Asks for a delta between two revisions, if there is room in the line; comes back at once."""
        if not self._limit_bytes or old == new or not (is_checksum(old or "") and is_checksum(new or "")):
            return
        pair = (Checksum(str(old)), Checksum(str(new)))
        if self._note_path(pair).exists():
            return
        with self._changed:
            if pair not in self._waiting and pair not in self._failed and len(self._waiting) < MAX_WAITING:
                self._waiting.append(pair)
                self._changed.notify_all()

    def offers(self, have: Iterable[str], want: str) -> tuple[DeltaOffer, ...]:
        """Returns the deltas that are ready, from any of some revisions to one.

        Raises:
            InvalidInput: a name is none of a commit's.
        """
        found = []
        for old in have:
            if not is_checksum(old) or not is_checksum(want):
                raise InvalidInput("not the checksum of a revision", where=old[:80])
            pair = (Checksum(old), Checksum(want))
            try:
                size = os.stat(self._path(pair)).st_size
                objects_bytes = self._read_note(pair)
            except (OSError, InvalidInput):
                continue
            self._used_s[pair] = time.time()
            found.append(DeltaOffer(have=old, size=size, objects_bytes=objects_bytes))
        return tuple(found)

    # --- making

    def _run(self) -> None:
        with contextlib.suppress(OSError):
            self.tidy()
        while True:
            with self._changed:
                while not self._waiting and not self._closed:
                    self._changed.wait()
                if self._closed:
                    return
                pair = self._waiting[0]
            try:
                self._make(pair)
                self.tidy()
            except (WherryError, OSError) as error:
                if not self._closed:
                    log.warning("no delta from %s to %s: %s", short(pair[0]), short(pair[1]), error)
                    self._failed.add(pair)
            finally:
                with self._changed:
                    self._waiting.popleft()

    def _make(self, pair: Pair) -> None:
        if self._note_path(pair).exists():
            return
        old, new = (self._with_components(revision) for revision in pair)
        objects_bytes = self._cost(old, new)
        make_dirs(self._folder)
        if objects_bytes >= LEAST_BYTES:
            began = time.monotonic()
            make_dirs(self._scratch)
            with tempfile.TemporaryDirectory(dir=self._scratch) as folder:
                made = Path(folder) / "made"
                self._run_maker(old, tuple(commit for commit in new if commit not in old), made)
                size = made.stat().st_size
                os.replace(made, self._path(pair))
            fsync_dir(self._folder)
            taken_s = time.monotonic() - began
            log.info("delta from %s to %s: %d bytes, %.0f s", short(pair[0]), short(pair[1]), size, taken_s)
        write_file(self._note_path(pair), jsonio.canonical({"objects_bytes": objects_bytes}))

    def _run_maker(self, old: tuple[Checksum, ...], new: tuple[Checksum, ...], output: Path) -> None:
        command = [sys.executable, "-m", "wherry", "--quiet", "store", "delta", "make", f"--repo={self._repo.path}"]
        command += [f"--from={commit}" for commit in old] + [f"--to={commit}" for commit in new]
        command += ["--threads=1", f"--parent={os.getpid()}", f"--output={output}"]
        with tempfile.TemporaryFile(dir=self._scratch) as told:
            with self._changed:
                if self._closed:
                    return
                try:
                    process = subprocess.Popen(
                        command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=told
                    )
                except OSError as error:
                    raise map_os_error(error, "cannot start a process", where=command[0]) from error
                self._process = process
            try:
                os.setpriority(os.PRIO_PROCESS, process.pid, _NICE)
                with contextlib.suppress(OSError):  # memory runs out: it goes, not the hub
                    Path(f"/proc/{process.pid}/oom_score_adj").write_text(_GOES_FIRST)
                status = process.wait(MAKE_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                raise ToolError(f"it took longer than {MAKE_TIMEOUT_S:.0f} s") from None
            finally:
                with self._changed:
                    self._process = None
            if status != 0:
                told.seek(0)
                words = told.read(_MAX_TOLD_CHARS).decode(errors="replace").strip()
                raise ToolError(f"making it ended with status {status}: {words}")

    def _with_components(self, revision: Checksum) -> tuple[Checksum, ...]:
        return (revision, *component_commits(load_revision(self._repo, revision)))

    def _cost(self, old: tuple[Checksum, ...], new: tuple[Checksum, ...]) -> int:
        """Returns what the objects cost that `new` needs beyond `old`."""
        names: list[str] = []
        here = [reachable(self._repo, commit) for commit in old]
        seen: set[tuple[ObjectType, Checksum]] = set()
        for commit in new:
            if commit in old:
                continue
            for item in reachable(self._repo, commit):
                if item not in seen and not any(item in objects for objects in here):
                    seen.add(item)
                    names.append(object_name(item[0], item[1], Mode.ARCHIVE))
        return object_sizes(self._repo, names)[0]

    # --- keeping

    def tidy(self) -> None:
        """Removes deltas whose commits are gone, and the longest unused while there are too many bytes of them."""
        kept: list[tuple[float, int, Pair]] = []
        for name in sorted(os.listdir(self._folder)) if self._folder.is_dir() else []:
            found = _NAME.match(name)
            if found is None:
                continue
            pair = (Checksum(found[1]), Checksum(found[2]))
            if not all(self._repo.has(ObjectType.COMMIT, commit) for commit in pair):
                remove_file(self._folder / name)
            elif name.endswith(".wdelta"):
                status = os.stat(self._folder / name)
                kept.append((self._used_s.get(pair, status.st_mtime), status.st_size, pair))
        total = sum(size for _, size, _ in kept)
        for _, size, pair in sorted(kept):
            if total <= self._limit_bytes:
                break
            remove_file(self._path(pair))
            remove_file(self._note_path(pair))
            total -= size

    def _path(self, pair: Pair) -> Path:
        return self._folder / f"{pair[0]}-{pair[1]}.wdelta"

    def _note_path(self, pair: Pair) -> Path:
        return self._folder / f"{pair[0]}-{pair[1]}.json"

    def _read_note(self, pair: Pair) -> int:
        path = self._note_path(pair)
        found = jsonio.loads(path.read_bytes(), where=path, max_bytes=_MAX_NOTE_BYTES)
        size = found.get("objects_bytes") if isinstance(found, dict) else None
        if not isinstance(size, int) or size < 0:
            raise InvalidInput("not what a delta's note is", where=path)
        return size
