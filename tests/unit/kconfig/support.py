"""Small Kconfig trees, fragments for them, and what kconfiglib, in the place of ``olddefconfig``, makes of these."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.unit.build.support import made

from wherry.build import kconfig, kconfig_explain
from wherry.build.fragments import Merged, merge
from wherry.build.kconfig import Reason, Untaken
from wherry.build.resolving import resolve


def fragments(top: Path, *texts: str, kind: str = "kernel") -> Merged:
    """Returns fragments of the layers ``a/l1``, ``a/l2`` ... merged."""
    names = [f"a/l{number}" for number in range(1, len(texts) + 1)]
    layers = made(top, dict.fromkeys(names, ""))
    for name, text in zip(names, texts, strict=True):
        (top / name / kind).mkdir()
        (top / name / kind / "config").write_text(text)
    return merge(resolve(layers, names), kind)


def tree(top: Path, text: str) -> Any:
    """Returns kconfiglib's Kconfig of a tree of one file."""
    path = top / "Kconfig"
    path.write_text(text)
    return kconfig_explain.loaded(str(path))


def olddefconfig(kconf: Any, top: Path, config: kconfig.Config) -> dict[str, str | None]:
    """Returns what a configuration becomes, and leaves it loaded."""
    given = top / "given.config"
    given.write_text(kconfig.serialize(config))
    kconf.load_config(str(given))
    kconf.write_config(str(top / "done.config"))
    kconf.load_config(str(top / "done.config"))
    return kconfig.read(top / "done.config")


def reasons(top: Path, kconf_text: str, *texts: str) -> dict[str, tuple[Untaken, Reason]]:
    """Returns what did not take of fragments, by symbol, with why."""
    (top / "layers").mkdir()
    asked = fragments(top / "layers", *texts)
    kconf = tree(top, kconf_text)
    untaken = kconfig.compare(asked, olddefconfig(kconf, top, kconfig.merged_over({}, asked)))
    request = [{"symbol": each.symbol, "asked": each.asked, "got": each.got} for each in untaken]
    answers = kconfig_explain.explain(kconf, request)
    return {
        each.symbol: (
            each,
            Reason(why=kconfig.Why(answer["why"]), text=answer["text"], symbols=answer["symbols"]),
        )
        for each, answer in zip(untaken, answers, strict=True)
    }
