"""The step ``licences``: a host that its policy forbids is not made into images.

It is there where ``host.yaml`` has a policy. Its result is a report; like any other it is kept, until the root, the
packages, the layers' lists of them or the policy are others.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

from wherry.build.builder import BuilderName
from wherry.build.hosttree import TREE
from wherry.build.legal.component import Facts, join
from wherry.build.legal.gathering import Unpacked, facts_in, locked_debs, unpacked_sources
from wherry.build.legal.licences import describe_tree
from wherry.build.legal.policy import enforce, read_policy
from wherry.build.steps import Place, Step
from wherry.core.durable import write_file
from wherry.core.jsonio import canonical, pretty
from wherry.image.sbom.tree import directory_tree
from wherry.spec.codec import encode

if TYPE_CHECKING:
    from wherry.build.debian.lock import Lock
    from wherry.build.hosts import Host
    from wherry.build.steps import Plan

LICENCES = "licences"
_RECIPE = "1"
"""Another one where the same host may get another answer."""


def policy_steps(host: Host, plan: Plan) -> tuple[Step, ...]:
    """Returns the step that checks a host's licences; none where it has no policy, or no root.

    Args:
        host: what is built.
        plan: its steps up to the root.

    Raises:
        InvalidInput: the policy is malformed; names the key.
    """
    where = f"{host.workspace.path / 'host.yaml'}: licences"
    policy = read_policy(host.file.licences, where=where)
    if not policy or not plan.root:
        return ()
    lock = _lock_of(host)
    packages = host.inputs.contributions.packages
    wanted = [[line.text, line.layer, line.path, line.line] for line in packages]
    unpacked = unpacked_sources(host)
    needs = (TREE, *([plan.boot] if plan.boot else ()), *(source.step for source in unpacked))

    def work(place: Place) -> None:
        facts = _facts(place, needs, lock, unpacked, host.inputs.architecture.name)
        for text in facts.warnings:
            place.warn(text)
        write_file(place.output / "components.json", (pretty(encode(facts.components)) + "\n").encode())
        enforce(facts.components, policy, packages, warn=place.warn)

    return (
        Step(
            name=LICENCES,
            what="check licences",
            work=work,
            inputs={
                "recipe": _RECIPE,
                "policy": canonical(encode(policy)).decode(),
                "packages": hashlib.sha256(canonical(wanted)).hexdigest(),
                "lock": _digest(lock),
            },
            needs=needs,
        ),
    )


def _lock_of(host: Host) -> Lock | None:
    if host.builder.name is not BuilderName.DEBIAN:
        return None
    from wherry.build.debian.locking import fitting_lock
    from wherry.build.debian.options import options_of

    return fitting_lock(host.inputs, options_of(host.inputs))


def _digest(lock: Lock | None) -> str:
    text = "" if lock is None else "\n".join(f"{one.name} {one.version} {one.sha256}" for one in lock.packages)
    return hashlib.sha256(text.encode()).hexdigest()


def _facts(
    place: Place, needs: tuple[str, ...], lock: Lock | None, unpacked: Sequence[Unpacked], architecture: str
) -> Facts:
    debs, _ = locked_debs(lock, place.downloads) if lock is not None else ([], [])
    root = place.inputs[TREE] / "root"
    found = [describe_tree(directory_tree(root), debs, name="root", progress=place.progress).facts]
    for name in needs:
        found += facts_in(place.inputs[name], name, unpacked, architecture)
    return join(found)
