"""The modules that a start needs in one file, beside the ones that the interpreter keeps of each.

::

    wherry/__pycache__/start.<tag>.bundle    marshal: [VERSION, {module: (path, is package, mtime, size, code)}]

A cold ``wherry run`` loads a hundred small modules, and a quarter of that time goes into looking for them. Here they
are found by one read; each is still compared with the size and the time of its source, as the interpreter does with
its own compiled files, whose bytes these are. What is missing or stale is imported in the usual way, and `keep` adds it
when the command has done its work. Losing the file costs some milliseconds; it is trusted as far as ``__pycache__`` is.

Not promised: that a module is here. Imports nothing but what is built in.
"""

from __future__ import annotations

import marshal
import posix
import sys
from _frozen_importlib import ModuleSpec

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import ModuleType

    Entry = tuple[str, bool, int, int, bytes]

VERSION = 1
MAX_BYTES = 16 << 20
_PYC_HEADER_BYTES = 16
"""PEP 552: the magic number, the flags, and the time and size of the source."""
_FOLDER = __file__.rpartition("/")[0]
FILE = f"{_FOLDER}/__pycache__/start.{sys.implementation.cache_tag}.bundle"


class Bundle:
    """Finds and loads modules from the file; a finder and a loader of the import system (PEP 451)."""

    def __init__(self, entries: dict[str, Entry]) -> None:
        self.entries = entries
        self.served: set[str] = set()

    def find_spec(self, name: str, path: Sequence[str] | None = None, target: object = None) -> ModuleSpec | None:
        """Returns what is known of a module; None when it is not here, or not any more what its source is."""
        entry = self.entries.get(name)
        if entry is None:
            return None
        place, is_package, mtime, size, _ = entry
        file = f"{_FOLDER}/{place}"
        try:
            status = posix.stat(file)
        except OSError:
            return None
        if int(status.st_mtime) & 0xFFFFFFFF != mtime or status.st_size & 0xFFFFFFFF != size:
            return None
        spec = ModuleSpec(name, self, origin=file, is_package=is_package)  # type: ignore[arg-type]  # PEP 451 asks for no base
        spec.has_location = True
        if is_package:
            spec.submodule_search_locations = [file.rpartition("/")[0]]
        return spec

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        """Leaves making the module to the interpreter."""
        return None

    def exec_module(self, module: ModuleType) -> None:
        """Runs a module's code."""
        name = module.__name__
        self.served.add(name)
        exec(marshal.loads(self.entries[name][4]), module.__dict__)  # noqa: S102, S302 what an import is


def install() -> Bundle:
    """Has modules looked for in the file first."""
    bundle = Bundle(_read())
    sys.meta_path.insert(0, bundle)
    return bundle


def keep_all() -> None:
    """Does `keep` for the bundle that is in use, if one is."""
    for finder in sys.meta_path:
        if isinstance(finder, Bundle):
            keep(finder)


def keep(bundle: Bundle) -> None:
    """Adds the modules that were imported in the usual way; does nothing where the folder is not this user's."""
    loaded = [name for name in sys.modules if name.startswith("wherry.") and name not in bundle.served]
    found = {name: entry for name in loaded if name != __name__ and (entry := _entry(name)) is not None}
    if not found or sys.dont_write_bytecode:
        return
    temporary = f"{FILE}.{posix.getpid()}"
    try:
        if posix.stat(FILE.rpartition("/")[0]).st_uid != posix.geteuid():
            return
        data = marshal.dumps([VERSION, {**bundle.entries, **found}])
        fd = posix.open(temporary, posix.O_WRONLY | posix.O_CREAT | posix.O_EXCL | posix.O_CLOEXEC, 0o644)
        try:
            whole = posix.write(fd, data) == len(data)
        finally:
            posix.close(fd)
        if whole:
            posix.replace(temporary, FILE)
        else:
            posix.unlink(temporary)
    except OSError:
        pass  # a read-only or a full file system: starts take as long as they did


def _read() -> dict[str, Entry]:
    try:
        fd = posix.open(FILE, posix.O_RDONLY | posix.O_CLOEXEC)
    except OSError:
        return {}
    try:
        size = posix.fstat(fd).st_size
        version, entries = marshal.loads(posix.read(fd, size)) if size <= MAX_BYTES else (0, {})  # noqa: S302
    except (OSError, ValueError, EOFError, TypeError):
        return {}
    finally:
        posix.close(fd)
    return entries if version == VERSION else {}


def _entry(name: str) -> Entry | None:
    """Returns a module as the interpreter has kept it compiled."""
    spec = sys.modules[name].__spec__
    if spec is None or not spec.cached or not spec.origin or not spec.origin.startswith(f"{_FOLDER}/"):
        return None
    try:
        with open(spec.cached, "rb") as file:
            data = file.read()
        status = posix.stat(spec.origin)
    except OSError:
        return None
    mtime, size = (int.from_bytes(data[at : at + 4], "little") for at in (8, 12))
    is_hash_based = int.from_bytes(data[4:8], "little") != 0
    if is_hash_based or mtime != int(status.st_mtime) & 0xFFFFFFFF or size != status.st_size & 0xFFFFFFFF:
        return None
    place = spec.origin.removeprefix(f"{_FOLDER}/")
    return place, spec.submodule_search_locations is not None, mtime, size, data[_PYC_HEADER_BYTES:]
