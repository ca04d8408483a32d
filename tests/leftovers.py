"""Lists what containers could leave behind on this machine, and compares two such lists.

``--save FILE`` writes the list; ``--compare FILE`` prints what is new since, and exits 1 when anything is.
Looks at mounts, cgroups, network links, nftables tables, network namespaces, loop devices and processes.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

from wherry.core.proc import run

_CGROUPS = Path("/sys/fs/cgroup")
MAX_LINE_CHARS = 200
"""Of a process: it is read by a person."""


def snapshot() -> dict[str, list[str]]:
    """Returns what is there, by kind, each sorted."""
    return {
        "mounts": sorted(_mounts()),
        # os.walk steps over a folder that goes while it looks
        "cgroups": sorted(folder for folder, _, _ in os.walk(_CGROUPS) if "wherry" in folder),
        "links": sorted(link["ifname"] for link in json.loads(run(["ip", "-j", "link"]).stdout)),
        "nftables": sorted(run(["nft", "list", "tables"]).stdout.decode().split("\n")),
        "netns": sorted(run(["ip", "netns", "list"]).stdout.decode().split("\n")),
        "loops": sorted(str(path.parent) for path in Path("/sys/block").glob("loop*/loop/backing_file")),
        "processes": sorted(_processes()),
    }


def _mounts() -> list[str]:
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return [f"{line.split()[4]} ({line.partition(' - ')[2].split()[0]})" for line in lines]


def _processes() -> list[str]:
    """Returns the command lines of processes that have to do with Wherry and do not lead to this one."""
    mine = {os.getpid()}
    pid = os.getpid()
    while pid > 1:
        pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
        mine.add(pid)
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) in mine:
            continue
        try:
            line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
        except OSError:
            continue
        if "wherry" in line:
            found.append(line[:MAX_LINE_CHARS])
    return found


def main() -> int:
    """Saves or compares, as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--save", type=Path)
    parser.add_argument("--compare", type=Path)
    arguments = parser.parse_args()
    now = snapshot()
    if arguments.save:
        arguments.save.write_text(json.dumps(now, indent=1))
        print(f"==> before the tests: {', '.join(f'{len(items)} {kind}' for kind, items in now.items())}")
        return 0
    if not arguments.compare:
        print(json.dumps(now, indent=1))
        return 0
    before = json.loads(arguments.compare.read_text())
    status = 0
    for kind, items in now.items():
        new = [item for item in items if items.count(item) > before[kind].count(item)]
        for item in dict.fromkeys(new):
            print(f"left behind: {kind}: {item}")
            status = 1
    if status == 0:
        print("nothing: mounts, cgroups, links, nftables, namespaces, loops and processes are as before")
    return status


if __name__ == "__main__":
    sys.exit(main())
