"""The default system call filter, compiled once after each boot: making it takes longer than starting a container.

::

    <run>/filters/<key>     the program's instructions; named after all that it was made of, replaced in one step

The key is a digest of the capabilities, the machine, and the sizes and times of the modules that make the filter, so
that another version of them never meets an old program.
"""

from __future__ import annotations

import os

from wherry.core.durable import make_dirs
from wherry.core.errors import WherryError
from wherry.core.sha256 import sha256_hex
from wherry.engine import bundle
from wherry.engine.state import Paths, read_bytes, write_lazily

TYPE_CHECKING = False
if TYPE_CHECKING:
    from wherry.engine.spec import ContainerConfig

_MADE_OF = ("runtime/default_seccomp.py", "linux/seccomp_compile.py", "linux/seccomp_profile.py", "linux/syscalls.py")
_INSTRUCTION_BYTES = 8


def filter_of(paths: Paths, config: ContainerConfig) -> bytes:
    """Returns a container's filter when that is the default one; b"" leaves it to its specification."""
    if not bundle.has_default_filter(config):
        return b""
    return default_filter(paths, frozenset(bundle.capabilities_of(config).bounding))


def default_filter(paths: Paths, capabilities: frozenset[str]) -> bytes:
    """Returns the compiled default filter of a container.

    Args:
        paths: of the engine root.
        capabilities: the container's bounding set, by name.
    """
    path = f"{paths.run}/filters/{_key(capabilities)}"
    code = read_bytes(path)
    if code and len(code) % _INSTRUCTION_BYTES == 0:
        return code
    from wherry.linux.seccomp_compile import compile_profile
    from wherry.runtime.default_seccomp import profile

    code = compile_profile(profile(capabilities)).code
    try:
        make_dirs(os.path.dirname(path), mode=0o700)
        write_lazily(path, code)
    except WherryError:
        pass  # a full disk: it is made anew each time
    return code


def _key(capabilities: frozenset[str]) -> str:
    package = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    made_of = [f"{status.st_size}.{status.st_mtime_ns}" for status in (os.stat(f"{package}/{n}") for n in _MADE_OF)]
    return sha256_hex(" ".join((os.uname().machine, *made_of, *sorted(capabilities))).encode())
