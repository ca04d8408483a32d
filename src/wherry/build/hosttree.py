"""The root of a host, made of what a builder has left and of what layers lay over it.

::

    builder's root ──┐
                     ├─▶ over: overlays, apps, users; then the layers' hooks/pre.sh, in the chain's order
                     └─▶ tree: both, in one; files are hard links, so it costs no space

A hook is called with one argument, the root's folder, as Buildroot calls its post-build scripts, in the sandbox of the
step: with the layers to read under ``/layers``, and the environment of `hookenv.py`. What it changes is what overlayfs
takes down; the builder's root stays as it was, for the next build. What lies in ``/dev``, ``/proc``, ``/run``, ``/sys``
and ``/tmp`` of a root is left out: a host mounts something there.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from wherry.build.contributions import digest
from wherry.build.hookenv import HookPlaces, environment, of_layer
from wherry.build.overlaying import Over, merge_trees
from wherry.build.steps import Place, Step
from wherry.build.users import Accounts, parse_user
from wherry.core.jsonio import pretty
from wherry.runtime.spec import Mount

if TYPE_CHECKING:
    from wherry.build.builder import Inputs
    from wherry.build.layers import Layer
    from wherry.build.steps import Plan

OVER, TREE = "over", "tree"
EMPTY = ("dev", "proc", "run", "sys", "tmp")
LAYERS = Path("/layers")
"""Where hooks see the layers."""
TARGET = Path("/build/target")
"""Where hooks see the root."""
APPS = PurePosixPath("usr/lib/wherry/apps")
"""Where a host has the Compose projects that layers bring along."""
_VERSION = "1"
"""Another one where the same inputs make another root."""


def tree_steps(inputs: Inputs, plan: Plan) -> list[Step]:
    """Returns the steps that make a root of a builder's; the last one is `TREE`, whose result has ``root/``."""
    found = inputs.contributions
    changes = not plan.finished and bool(
        found.overlays or found.users or found.apps or found.hooks.get("before") or inputs.name
    )
    tree = Step(
        name=TREE,
        what="put the root together",
        work=lambda place: _make_tree(place, plan.root),
        inputs={"version": _VERSION},
        needs=(plan.root, OVER) if changes else (plan.root,),
    )
    return [over_step(inputs, plan.root), tree] if changes else [tree]


def over_step(inputs: Inputs, root: str) -> Step:
    """Returns the step that lays over a root what layers have for it."""
    found = inputs.contributions
    hooks = list(found.hooks.get("before", ()))
    kinds = ("root_overlay", "users", "apps", *(("hooks", "resources", "scripts") if hooks else ()))
    return Step(
        name=OVER,
        what="lay overlays, users and hooks over it" if hooks else "lay overlays and users over it",
        work=lambda place: _lay_over(place, inputs, root),
        inputs={
            "version": _VERSION,
            "layers": digest(found.chain, kinds),
            "epoch": str(inputs.epoch),
            "name": inputs.name,
        },
        needs=(root,),
        layer=hooks[0].layer if len({part.layer for part in hooks}) == 1 else "",
    )


def _lay_over(place: Place, inputs: Inputs, root: str) -> None:
    found = inputs.contributions
    base = place.inputs[root] / "root"
    upper = place.output / "upper"
    upper.mkdir()
    over = Over(base, upper)
    over.folder(PurePosixPath())
    _name_host(over, inputs.name)
    for part in found.overlays:
        place.say(f"overlay of {part.layer}")
        over.lay(part)
    for name, part in sorted(found.apps.items()):
        place.say(f"app {name} of {part.layer}")
        over.folder(APPS / name)
        over.lay(part, APPS / name)
    if found.users:
        accounts = Accounts(over, lambda clear, salt: _hash_password(place, clear, salt))
        for line in found.users:
            user = parse_user(line)
            place.say(f"user {user.name} of {line.layer}")
            accounts.add(user)
        accounts.write()
    run_hooks(place, inputs, "before", base=base, upper=upper)


def _name_host(over: Over, name: str) -> None:
    """Gives a host the name of its workspace, where the root has none of its own."""
    path = PurePosixPath("etc/hostname")
    said = (over.read(path) or b"").decode(errors="replace").strip()
    if name and said in ("", "localhost", "debian", "buildroot"):
        over.write(path, f"{name}\n".encode())


def _hash_password(place: Place, clear: str, salt: str) -> str:
    """Returns crypt(3)'s SHA-512 hash of a password, which never stands in an argument list."""
    given = place.scratch / ".password"
    with open(os.open(given, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(clear + "\n")
    try:
        return place.read(["openssl", "passwd", "-6", "-salt", salt, "-in", str(given)]).strip()
    finally:
        given.unlink()


def run_hooks(
    place: Place,
    inputs: Inputs,
    word: str,
    *,
    base: Path | None = None,
    upper: Path | None = None,
    argument: Path = TARGET,
    env: Mapping[str, str] | None = None,
) -> None:
    """Runs the layers' hooks of a moment, in the order of the chain.

    Args:
        place: of the step.
        inputs: what is built.
        word: ``before`` images are made of the root, or ``after``.
        base: with `upper`: the root that they see at `TARGET`, an overlay.
        upper: takes what they change.
        argument: what they are called with.
        env: more variables.

    Raises:
        ToolError: one of them failed.
    """
    hooks = inputs.contributions.hooks.get(word, ())
    if not hooks:
        return
    chain = inputs.contributions.chain
    dropins = _write_dropins(place, chain)
    places = HookPlaces(
        output=Path("/build/kept"),
        generated=Path("/build/scratch"),
        dropins=Path("/build/scratch") / dropins.name,
        tree=LAYERS,
        layer=lambda layer: LAYERS / layer.name,
    )
    common = environment(chain, places, workspace=inputs.name, version=inputs.name)
    mounts = [_bind(layer.path, LAYERS / layer.name) for layer in chain]
    if base is not None and upper is not None:
        (place.scratch / "work").mkdir(exist_ok=True)
        options = (f"lowerdir={base}", f"upperdir={upper}", f"workdir={place.scratch / 'work'}")
        mounts.append(Mount(destination=str(TARGET), type="overlay", source="overlay", options=options))
    by_name = {layer.name: layer for layer in chain}
    for part in hooks:
        layer = by_name[part.layer]
        place.say(f"hook {part.path.name} of {part.layer}")
        program = LAYERS / layer.name / "hooks" / part.path.name
        args = [str(program)] if os.access(part.path, os.X_OK) else ["sh", str(program)]
        place.run(
            [*args, str(argument)],
            env={**common, **of_layer(layer, places), "TARGET_DIR": str(TARGET), **(env or {})},
            mounts=mounts,
        )


def _write_dropins(place: Place, chain: Sequence[Layer]) -> Path:
    from wherry.build.dropins import combine_all

    top = place.scratch / "dropins"
    top.mkdir(exist_ok=True)
    for combined in combine_all(chain):
        target = top / combined.name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(pretty(combined.value) + "\n")
    return top


def _bind(source: Path, target: Path) -> Mount:
    return Mount(destination=str(target), type="bind", source=str(source), options=("rbind", "nosuid", "rro"))


def _make_tree(place: Place, root: str) -> None:
    target = place.output / "root"
    target.mkdir()
    upper = place.inputs[OVER] / "upper" if OVER in place.inputs else place.scratch / "none"
    merge_trees(place.inputs[root] / "root", upper, target, empty=EMPTY)
