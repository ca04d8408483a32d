"""The modules that a start needs in one file, beside the ones that the interpreter keeps of each.

::

    wherry/__pycache__/start.<tag>.<what>.bundle
        4 bytes     how many of the index follow, little-endian
        index       marshal: (VERSION, bytes of each part that follows)
        parts       marshal: [(module, place, is package, mtime, size, code), ...], as their imports end
        last part   marshal: {module: (place, is package, mtime, size, marshal of the code)}, what is loaded late

A cold ``wherry run`` loads a hundred small modules, and the import system spends as long on finding them as on running
them. Of the commands that are started thousands of times (`EARLY`), what each of them always needs is loaded at once:
one look at each source (its size and its time, as the interpreter does with its own compiled files), one module after
the other without the import system. What only some of them need is in the same file, and found when it is asked for.
The code is lean (`lean.py`), and comes in parts that fit into memory that is there already: a page that is touched for
the first time costs some microseconds. What is missing or stale is compiled in the usual way, and `keep` writes the
file anew when the command has done its work. Losing it costs some milliseconds; it is trusted as far as
``__pycache__`` is.

Imports nothing but what is built in.
"""

from __future__ import annotations

import marshal
import posix
import sys
from _frozen_importlib import ModuleSpec
from _frozen_importlib_external import SourceFileLoader

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import CodeType, ModuleType

    Early = tuple[str, str, bool, int, int, CodeType]
    Late = tuple[str, bool, int, int, bytes]

VERSION = 3
MAX_BYTES = 16 << 20
PART_BYTES = 96 << 10
"""Of the sources of a part: less than what malloc(3) maps anew for each buffer."""
_INDEX_BYTES = 2048
_RUN = (
    "wherry.cli.main",
    "wherry.cli.quick_container",
    "wherry.engine.engine",
    "wherry.cli.container_options",
    "wherry.engine.person",
)
_RUNTIME = ("wherry.cli.main", "wherry.cli.runtime", "wherry.cli.runtime_commands")
_MAKING = (
    *_RUNTIME,
    "wherry.cli.runtime_life",
    "wherry.runtime.cgroup_devices",
    "wherry.runtime.config_seccomp",
    "wherry.runtime.users",
    "wherry.linux.seccomp",
    "wherry.linux.seccomp_compile",
)
EARLY = {
    "run": (
        *_RUN,
        "wherry.cli.container_spec",
        "wherry.engine.names",
        "wherry.engine.foreground",
        "wherry.engine.starting",
        "wherry.runtime.cgroup_devices",
        "wherry.linux.seccomp",
    ),
    "exec": (*_RUN, "wherry.engine.executing", "wherry.linux.seccomp"),
    "runtime-create": _MAKING,
    "runtime-run": _MAKING,
    "protecting": ("wherry.cli.protecting", "wherry.linux.readonly"),
    "runtime-exec": (
        *_RUNTIME,
        "wherry.cli.runtime_exec",
        "wherry.cli.runtime_look",
        "wherry.linux.seccomp",
        "wherry.runtime.users",
    ),
    "runtime-start": (*_RUNTIME, "wherry.cli.runtime_life"),
    "runtime-delete": (*_RUNTIME, "wherry.cli.runtime_life"),
    "runtime-state": (*_RUNTIME, "wherry.cli.runtime_look"),
}
"""What a command always needs, with all that these import where they begin. The rest comes when it is asked for."""
_FOLDER = __file__.rpartition("/")[0]
_MODULE = type(sys)


def what(words: Sequence[str]) -> str:
    """Returns which file a command line has its modules in, by its words, of which the first is the program's name."""
    runtime = "runtime-" if words[1:2] == ["runtime"] or words[0].endswith("wherry-runc") else ""
    for name in ("create", "run", "exec", "start", "delete", "state"):
        if name in words and f"{runtime}{name}" in EARLY:
            return runtime + name
    return "other"


def path(name: str) -> str:
    """Returns where the file of that name is."""
    return f"{_FOLDER}/__pycache__/start.{sys.implementation.cache_tag}.{name}.bundle"


class Bundle:
    """Finds and loads modules of the package; a finder and a loader of the import system (PEP 451)."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.served: set[str] = set()
        """What came from the file."""
        self._early, self._late_place = _read(path(name))
        self._late: dict[str, Late] | None = None
        if not all(_is_fresh(place, mtime, size) for _, place, _, mtime, size, _ in self._early):
            self._early, self._late = [], {}  # or the new order would lack what came from the old file
        self._made: dict[str, Early] = {}
        """What did not, by name, in the order in which their import ended."""
        self._pending: dict[str, Early] = {}
        self._early_made: list[Early] = []

    def load_early(self) -> None:
        """Imports what this command always needs."""
        modules = sys.modules
        for name, place, is_package, _, _, code in self._early:
            parent, _, last = name.rpartition(".")
            if parent not in modules:  # who wrote the file had it before, from another one
                __import__(parent)
            if name in modules:
                continue
            file = f"{_FOLDER}/{place}"
            module = _MODULE(name)
            names = module.__dict__
            names["__file__"] = file
            names["__loader__"] = self
            spec = names["__spec__"] = ModuleSpec(name, self, origin=file)  # type: ignore[arg-type]  # PEP 451 asks for no base
            spec.has_location = True
            # As the import system does: else each "from module import" raises an AttributeError inside, 3 % of a start.
            spec._initializing = False  # type: ignore[attr-defined]
            if is_package:
                names["__path__"] = spec.submodule_search_locations = [file.rpartition("/")[0]]
                names["__package__"] = name
            else:
                names["__package__"] = parent
            modules[name] = module
            self.served.add(name)
            exec(code, names)  # noqa: S102 what an import is
            setattr(modules[parent], last, module)
        if not self._early:
            for name in EARLY.get(self.name, ()):
                __import__(name)
            self._early_made = list(self._made.values())

    def find_spec(self, name: str, path: Sequence[str] | None = None, target: object = None) -> ModuleSpec | None:
        """Returns what is known of a module; None when it is none of ours."""
        if not name.startswith("wherry."):
            return None
        late = self._read_late().get(name)
        if late is not None and _is_fresh(late[0], late[2], late[3]):
            place, is_package, mtime, size, code = late
            self.served.add(name)
            found: Early | None = (name, place, is_package, mtime, size, marshal.loads(code))  # noqa: S302 our own file
        else:
            found = _compiled(name)
        if found is None:
            return None
        self._pending[name] = found
        file = f"{_FOLDER}/{found[1]}"
        spec = ModuleSpec(name, self, origin=file, is_package=found[2])  # type: ignore[arg-type]  # as above
        spec.has_location = True
        if found[2]:
            spec.submodule_search_locations = [file.rpartition("/")[0]]
        return spec

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        """Leaves making the module to the interpreter."""
        return None

    def exec_module(self, module: ModuleType) -> None:
        """Runs a module's code."""
        name = module.__name__
        found = self._pending.pop(name)
        exec(found[5], module.__dict__)  # noqa: S102 what an import is
        if name not in self.served:
            self._made[name] = found

    def keep(self) -> None:
        """Writes what did not come from the file into it; does nothing where the folder is not this user's."""
        if not self._made or sys.dont_write_bytecode:
            return
        from wherry.lean import lean

        early = self._early or [(*entry[:5], lean(entry[5])) for entry in self._early_made]
        known = {entry[0] for entry in early}
        late = dict(self._read_late())
        for name, (_, place, is_package, mtime, size, code) in self._made.items():
            late[name] = (place, is_package, mtime, size, marshal.dumps(code))
        late = {name: entry for name, entry in late.items() if name not in known}
        parts = [marshal.dumps(part) for part in _parts(early)]
        _write(path(self.name), [*parts, marshal.dumps(late)])

    def _read_late(self) -> dict[str, Late]:
        if self._late is None:
            self._late = _read_part(path(self.name), *self._late_place) if self._late_place[1] else {}
        return self._late


def install(name: str) -> Bundle:
    """Has modules looked for in a file first, and loads what is always needed.

    Args:
        name: which file, as `what` tells.
    """
    bundle = Bundle(name)
    sys.meta_path.insert(0, bundle)
    bundle.load_early()
    return bundle


def keep_all() -> None:
    """Does `keep` for the bundle that is in use, if one is."""
    for finder in sys.meta_path:
        if isinstance(finder, Bundle):
            finder.keep()


def _is_fresh(place: str, mtime: int, size: int) -> bool:
    try:
        status = posix.stat(f"{_FOLDER}/{place}")
    except OSError:
        return False
    return int(status.st_mtime) == mtime and status.st_size == size


def _compiled(name: str) -> Early | None:
    """Returns a module as the interpreter compiles and keeps it."""
    place = name.removeprefix("wherry.").replace(".", "/")
    for is_package, end in ((False, ".py"), (True, "/__init__.py")):
        file = f"{_FOLDER}/{place}{end}"
        try:
            status = posix.stat(file)
        except OSError:
            continue
        code = SourceFileLoader(name, file).get_code(name)
        return (name, place + end, is_package, int(status.st_mtime), status.st_size, code) if code else None
    return None


def _parts(early: list[Early]) -> list[list[Early]]:
    found: list[list[Early]] = []
    room = 0
    for entry in early:
        if entry[4] > room:
            found.append([])
            room = PART_BYTES
        found[-1].append(entry)
        room -= entry[4]
    return found


def _read(file: str) -> tuple[list[Early], tuple[int, int]]:
    """Returns what is to be loaded early, and the place of the part of the rest."""
    early: list[Early] = []
    try:
        fd = posix.open(file, posix.O_RDONLY | posix.O_CLOEXEC)
    except OSError:
        return [], (0, 0)
    try:
        head = posix.read(fd, _INDEX_BYTES)
        place = 4 + int.from_bytes(head[:4], "little")
        version, sizes = marshal.loads(head[4:place])  # noqa: S302 our own file
        if version != VERSION or sum(sizes) > MAX_BYTES:
            return [], (0, 0)
        for size in sizes[:-1]:
            early += marshal.loads(posix.pread(fd, size, place))  # noqa: S302
            place += size
    except (OSError, ValueError, EOFError, TypeError):
        return [], (0, 0)
    finally:
        posix.close(fd)
    return early, (place, sizes[-1])


def _read_part(file: str, place: int, size: int) -> dict[str, Late]:
    try:
        fd = posix.open(file, posix.O_RDONLY | posix.O_CLOEXEC)
        try:
            found: dict[str, Late] = marshal.loads(posix.pread(fd, size, place))  # noqa: S302
        finally:
            posix.close(fd)
    except (OSError, ValueError, EOFError, TypeError):
        return {}  # it was replaced just now
    return found


def _write(file: str, parts: list[bytes]) -> None:
    index = marshal.dumps((VERSION, [len(part) for part in parts]))
    data = b"".join((len(index).to_bytes(4, "little"), index, *parts))
    temporary = f"{file}.{posix.getpid()}"
    try:
        if posix.stat(file.rpartition("/")[0]).st_uid != posix.geteuid():
            return
        fd = posix.open(temporary, posix.O_WRONLY | posix.O_CREAT | posix.O_EXCL | posix.O_CLOEXEC, 0o644)
        try:
            whole = posix.write(fd, data) == len(data)
        finally:
            posix.close(fd)
        if whole:
            posix.replace(temporary, file)
        else:
            posix.unlink(temporary)
    except OSError:
        pass  # a read-only or a full file system: starts take as long as they did
