"""What is changed in a configuration and saved as a fragment, laid over the fragments before it, gives it again."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.kconfig.support import olddefconfig, tree

from wherry.build import kconfig
from wherry.build.fragments import Merged, Setting

NAMES = tuple("ABCDEFGH")
SWITCH = st.sampled_from(["y", "m", None])
OTHERS = {"TEXT": st.sampled_from(['""', '"one"', '"two \\"three\\""']), "NR": st.sampled_from(["1", "5", "16"])}
WISHES = st.fixed_dictionaries(
    {},
    optional={f"CONFIG_{name}": SWITCH for name in (*NAMES, "X", "Y", "Z")}
    | {f"CONFIG_{k}": v for k, v in OTHERS.items()},
)


@st.composite
def trees(draw: st.DrawFn) -> str:
    """Draws a tree: switches that depend on earlier ones or select them, a choice, a text and a number."""
    parts = ["config MODULES\n\tdef_bool y\n\tmodules\n"]
    for index, name in enumerate(NAMES):
        kind = draw(st.sampled_from(["bool", "tristate"]))
        lines = [f"config {name}", f'\t{kind} "{name}"']
        if draw(st.booleans()):
            lines.append(f"\tdefault {draw(st.sampled_from('ym'))}")
        if index and draw(st.booleans()):
            negated = draw(st.sampled_from(["", "!"]))
            lines.append(f"\tdepends on {negated}{draw(st.sampled_from(NAMES[:index]))}")
        later = NAMES[index + 1 :]
        if later and draw(st.integers(0, 4)) == 0:
            lines.append(f"\tselect {draw(st.sampled_from(later))}")
        parts.append("\n".join(lines) + "\n")
    first = draw(st.sampled_from(NAMES))
    parts.append(f'choice\n\tprompt "one of"\n\tdepends on {first} || !{first}\n')
    parts += [f'config {name}\n\tbool "{name}"\n' for name in "XYZ"]
    parts.append("endchoice\n")
    parts.append(f'config TEXT\n\tstring "text"\n\tdepends on {draw(st.sampled_from(NAMES))}\n')
    parts.append(f'config NR\n\tint "nr"\n\trange 1 16\n\tdefault 2\n\tdepends on !{draw(st.sampled_from(NAMES))}\n')
    return "\n".join(parts)


def asked(layers: list[dict[str, str | None]]) -> Merged:
    history: dict[str, list[Setting]] = {}
    for number, wishes in enumerate(layers):
        for line, (symbol, value) in enumerate(wishes.items(), 1):
            every = history.pop(symbol, [])
            here = Setting(symbol=symbol, value=value, layer=f"a/l{number}", path="kernel/c", line=line)
            history[symbol] = [*every, here]
    return Merged(history=history)


def effective(config: kconfig.Config) -> dict[str, str | None]:
    return {symbol: value for symbol, value in config.items() if value is not None}


@given(text=trees(), base=WISHES, edit=WISHES)
@settings(max_examples=150, deadline=None)
def test_a_delta_over_the_fragments_gives_the_edited_configuration(
    text: str, base: dict[str, str | None], edit: dict[str, str | None]
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        top = Path(folder)
        kconf: Any = tree(top, text)
        wishes = asked([base])
        before = olddefconfig(kconf, top, kconfig.merged_over({}, wishes))
        edited = olddefconfig(kconf, top, kconfig.merged_over(before, asked([edit])))

        def complete(settings: kconfig.Config) -> dict[str, str | None]:
            return olddefconfig(kconf, top, kconfig.merged_over({}, asked([base, dict(settings)])))

        delta = kconfig.delta_fragment(before, edited, complete, asked=set(wishes.history))
        with_delta = asked([base, kconfig.parse(delta)])
        again = olddefconfig(kconf, top, kconfig.merged_over({}, with_delta))
        assert effective(again) == effective(edited), delta
        assert [each.symbol for each in kconfig.compare(with_delta, again) if each.symbol in kconfig.parse(delta)] == []


@given(
    st.dictionaries(
        st.from_regex(r"(CONFIG|BR2)_[A-Z0-9_]{1,8}", fullmatch=True), st.sampled_from(["y", "m", None, '"a=b"', "0x1"])
    )
)
def test_a_configuration_is_read_as_it_was_written(config: dict[str, str | None]) -> None:
    assert kconfig.parse(kconfig.serialize(config)) == config
