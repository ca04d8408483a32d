"""The two scripts that Buildroot calls, which call the layers' hooks in the order of the chain.

Each hook starts in Buildroot's output folder, with the arguments that Buildroot gives, and with the environment of
`hookenv.py`. A line ``>>> layer NAME hooks/FILE`` stands before what each prints, so that a failure can be told.

SkiffOS' own base layer writes the time of the build into the root; so ``date`` without an own time says what
SOURCE_DATE_EPOCH says, and two builds are the same.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import TYPE_CHECKING

from wherry.build import hookenv

if TYPE_CHECKING:
    from pathlib import PurePath

    from wherry.build.contributions import Part
    from wherry.build.hookenv import HookPlaces
    from wherry.build.layers import Layer

ENVIRONMENT = "hooks.env"
PROGRAMS = "bin"
"""Programs that hooks find before others."""
DATE = """\
#!/bin/sh
# The time of the build is SOURCE_DATE_EPOCH, whenever it is made.
for word; do
    case "$word" in
    -[!uIR-]* | --date* | --file* | --reference* | --set*) exec /bin/date "$@" ;;
    esac
done
exec /bin/date -u -d "@${SOURCE_DATE_EPOCH:?}" "$@"
"""
MARK = "layer"
"""The first word of the line before a hook, where Buildroot has the package's name."""


def hooks_script(parts: Sequence[Part], chain: Sequence[Layer], places: HookPlaces) -> str:
    """Returns a script that calls hooks.

    Args:
        parts: the hooks, in their order.
        chain: the layers.
        places: where things are when it runs.
    """
    by_name = {layer.name: layer for layer in chain}
    generated = shlex.quote(str(places.generated))
    lines = [
        "#!/bin/bash",
        "# Calls the layers' hooks in the order of the chain.",
        "set -euo pipefail",
        f"set -a; . {generated}/{ENVIRONMENT}; set +a",
        f"export PATH={generated}/{PROGRAMS}:$PATH",
        "hook() {",
        '    local layer="$1" file="$2"',
        "    shift 2",
        f'    printf ">>> {MARK} %s hooks/%s\\n" "$layer" "${{file##*/}}"',
        '    cd "$BUILDROOT_DIR"',
        '    "$file" "$@"',
        "}",
    ]
    for part in parts:
        layer = by_name[part.layer]
        lines.append("(")
        lines += [f"    {line}" for line in hookenv.script(hookenv.of_layer(layer, places)).splitlines()]
        file = places.layer(layer) / "hooks" / part.path.name
        lines.append(f'    hook {shlex.quote(layer.name)} {shlex.quote(str(file))} "$@"')
        lines.append(")")
    return "".join(f"{line}\n" for line in lines)


def files(
    hooks: dict[str, Sequence[Part]], chain: Sequence[Layer], places: HookPlaces, environment: dict[str, str]
) -> dict[str, str]:
    """Returns the scripts and what they need, by their names below the folder of what is generated.

    Args:
        hooks: file -> the hooks that it calls.
        chain: the layers.
        places: where things are when they run.
        environment: of all hooks.
    """
    scripts = {name: hooks_script(parts, chain, places) for name, parts in hooks.items() if parts}
    if not scripts:
        return {}
    return {**scripts, ENVIRONMENT: hookenv.script(environment), f"{PROGRAMS}/date": DATE}


def is_program(path: PurePath) -> bool:
    """Tells whether a generated file is a program."""
    return path.suffix == ".sh" or path.parent.name == PROGRAMS
