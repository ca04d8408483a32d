"""What the steps before the build remember, as most changes of layers are none for them.

To read Buildroot's Makefiles takes it ten seconds and more. A change of an overlay or a hook changes neither the
configuration nor the sources that it wants, though the steps ``config`` and ``fetch`` stand after the layers that
changed. So each keeps what it made beside the digest of all that it was really made of, in its folder that stays.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from wherry.core.errors import WherryError
from wherry.core.jsonio import canonical, loads

FOLDER = "remembered"
OF = "of"
FILES = "files.json"


def recall(kept: Path, of: str, target: Path) -> bool:
    """Copies what was made of the same; tells whether there was any.

    Args:
        kept: a step's folder that stays.
        of: what names all that it is made of.
        target: the step's result, empty.
    """
    folder = kept / FOLDER
    with suppress(OSError):
        if (folder / OF).read_text(encoding="utf-8") == of:
            for path in folder.iterdir():
                if path.name not in (OF, FILES):
                    shutil.copyfile(path, target / path.name)
            return True
    return False


def remember(kept: Path, of: str, made: Sequence[Path]) -> None:
    """Keeps files that were made.

    Args:
        kept: a step's folder that stays.
        of: what names all that they are made of.
        made: the files.
    """
    folder = kept / FOLDER
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for path in made:
        shutil.copyfile(path, folder / path.name)
    (folder / OF).write_text(of, encoding="utf-8")  # last: without it nothing counts


def still_there(kept: Path, folder: Path) -> bool:
    """Tells whether all the files that were in a folder are there, as large as they were."""
    with suppress(OSError, WherryError):
        path = kept / FOLDER / FILES
        said = loads(path.read_bytes(), where=path)
        return isinstance(said, dict) and all((folder / name).stat().st_size == size for name, size in said.items())
    return False


def remember_files(kept: Path, folder: Path) -> None:
    """Keeps which files are in a folder, and how large they are; after `remember`."""
    files = {
        str(path.relative_to(folder)): path.stat().st_size
        for path in folder.rglob("*")
        if path.is_file() and not path.name.startswith(".")
    }
    (kept / FOLDER / FILES).write_bytes(canonical(files))
