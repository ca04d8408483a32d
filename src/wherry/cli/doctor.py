"""``wherry doctor``: what this machine can do, what each gap costs, and how to close it."""

from __future__ import annotations

import sys
import textwrap
from itertools import groupby

import click

from wherry.cli.context import settings
from wherry.cli.output import print_json

EXIT_GAPS = 11
"""Something that the main job needs is missing (as Unsupported in core/errors.py)."""


@click.command(epilog="\b\nExamples:\n  wherry doctor\n  wherry doctor --json | jq '.[] | select(.ok | not)'")
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON.")
def doctor(as_json: bool) -> int:
    """Check kernel features, tools and permissions.

    For each gap it says what does not work without it and how to get it. The exit status is 11 when
    something is missing that the main job needs, else 0.
    """
    from wherry.linux.features import examine

    findings = list(examine(settings().root))
    gaps = [finding for finding in findings if not finding.ok]
    needed = [finding for finding in gaps if finding.needed]
    if as_json:
        print_json(findings)
        return EXIT_GAPS if needed else 0
    colour = sys.stdout.isatty()
    for group, members in groupby(findings, key=lambda finding: finding.group):
        print(click.style(group, bold=True) if colour else group)
        for finding in members:
            mark, shade = (
                ("ok", "green") if finding.ok else (("MISSING", "red") if finding.needed else ("without", "yellow"))
            )
            label = f"{mark:<8}"
            print(f"  {click.style(label, fg=shade) if colour else label}{finding.name:<24}{finding.seen}")
            if not finding.ok:
                print(_indented("costs", finding.cost))
                print(_indented("to do", finding.remedy))
    print()
    if needed:
        print(f"{len(needed)} of {len(findings)} checks failed that the main job needs.")
        return EXIT_GAPS
    print(f"Ready: {len(findings) - len(gaps)} of {len(findings)} checks passed; a gap only costs what it says.")
    return 0


def _indented(label: str, text: str) -> str:
    return textwrap.fill(
        text, width=80, initial_indent=f"{'':<10}{label}: ", subsequent_indent=" " * 17, break_on_hyphens=False
    )
