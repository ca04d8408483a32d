"""Where Wherry's own layers are: boards and small hosts, as data. They are the last search path of every command.

In a checkout that is ``layers/``; a wheel has them below the package (``pyproject.toml``, force-include).
"""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).parents[1]
_PLACES = (_PACKAGE / "layers", _PACKAGE.parents[1] / "layers")


def builtin_layers() -> Path | None:
    """Returns the folder of the layers that come with Wherry; None where somebody installed it without."""
    return next((place for place in _PLACES if place.is_dir()), None)
