"""Wherry's main job, from end to end on one machine: ``make demo``.

Builds two small apps from Debian packages, starts a hub and a device, enrols it, deploys a revision, updates it,
breaks it and sees it roll back by itself, and cuts the device's power in the middle of an update. Everything it
makes lies below ``build/demo`` (removed at the next start) and ``build/cache`` (kept); every process that it
starts it ends, unless it is called with ``--keep``.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from examples.demo import browser, images
from examples.demo.story import Story
from tests import leftovers

PROJECT = Path(__file__).resolve().parents[2]
CACHE = PROJECT / "build/cache"
WORK = PROJECT / "build/demo"
TEMPLATE = Path(__file__).parent / "kiosk"
WHERRY = str(Path(sys.executable).with_name("wherry"))
PAGE = "http://127.0.0.1:18080/"
HUB_PASSWORD = "demo-only-password"
ENV = {
    "WHERRY_ROOT": str(WORK / "machine"),
    "WHERRY_RUN_ROOT": str(WORK / "run"),
    "WHERRY_HUB_PASSWORD": HUB_PASSWORD,
    "XDG_CONFIG_HOME": str(WORK / "config"),
}
DEVICE = WORK / "device"
KIOSK = WORK / "kiosk"


class Demo:
    """The machine room: the processes that run, and the commands that a person would type."""

    def __init__(self, story: Story) -> None:
        self.story = story
        self.hub_url = ""
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def wherry(self, *args: str, cwd: Path | None = None, show: bool = True, lines: int = 12, expect: int = 0) -> str:
        """Runs one command of Wherry."""
        return self.story.run([WHERRY, *args], cwd=cwd, env=ENV, show=show, lines=lines, expect=expect)

    def json(self, *args: str) -> Any:
        """Runs a command that prints JSON, without showing it."""
        return json.loads(self.wherry(*args, "--json", show=False))

    def start(self, name: str, *args: str, **environment: str) -> None:
        """Starts a long-lived command in the background, with its output in a file."""
        self.story.say(f"$ wherry {' '.join(args)} &")
        with (WORK / f"{name}.log").open("ab") as log:
            self._processes[name] = subprocess.Popen(
                [WHERRY, *args],
                env={**os.environ, **ENV, **environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def running(self, name: str) -> bool:
        """Tells whether a background command still runs."""
        return self._processes[name].poll() is None

    def stop(self, name: str, number: int = signal.SIGTERM) -> int:
        """Ends a background command and returns its exit status."""
        process = self._processes.pop(name)
        if process.poll() is None:
            process.send_signal(number)
        return process.wait(timeout=30)

    def stop_all(self) -> None:
        """Ends every background command."""
        for name in list(self._processes):
            self.stop(name)

    def wait(self, what: str, ready: Callable[[], bool], timeout_s: float = 90) -> None:
        """Waits until something is so.

        Raises:
            SystemExit: it took too long, or a background command died meanwhile.
        """
        deadline = time.monotonic() + timeout_s
        while not ready():
            if time.monotonic() > deadline:
                self._give_up(f"waited {timeout_s:.0f} s for {what}")
            time.sleep(0.1)

    def _give_up(self, why: str) -> None:
        for log in sorted(WORK.glob("*.log")):
            print(f"--- {log.name}\n{log.read_text(errors='replace')[-3000:]}")
        raise SystemExit(f"demo: {why}")

    def device(self) -> dict[str, Any]:
        """Returns the one device, as the hub knows it."""
        found: dict[str, Any] = self.json("fleet", "devices")[0]
        return found

    def settled(self, revision: str, state: str) -> bool:
        """Tells whether the device reports `state` and runs `revision`."""
        device = self.device()
        return device.get("update_state") == state and device.get("current") == revision

    def containers(self) -> dict[str, Any]:
        """Returns app name -> container, as they run on the device."""
        status = self.json("device", "status", "--dir", str(DEVICE))
        return {app["name"]: app for app in status["apps"]}

    def page(self) -> str:
        """Fetches the device's web page and returns its headline."""
        with urllib.request.urlopen(PAGE, timeout=5) as answer:
            text = answer.read().decode()
        match = re.search(r"<h1>(.*?)</h1>", text)
        return match.group(1) if match else text

    def commit(self, message: str) -> str:
        """Commits the project, pushes it, and returns the revision."""
        self.wherry("commit", "-a", "-m", message, cwd=KIOSK)
        self.wherry("push", cwd=KIOSK)
        revision: str = json.loads(self.wherry("log", "-n", "1", "--json", cwd=KIOSK, show=False))[0]["commit"]
        return revision


def build(demo: Demo) -> None:
    """Makes the images and the project."""
    demo.story.chapter("Two apps from Debian packages")
    for name, packages, command in (("web", "nginx-light", '["nginx"]'), ("sensor", "python3-minimal", '["python3"]')):
        tree = images.debian_tree(CACHE, name, packages, demo.story.say)
        demo.wherry("image", "import", str(tree), "--name", f"kiosk/{name}:1", "--change", f"CMD {command}")
    demo.wherry("image", "ls")
    demo.story.chapter("A project folder: one signed revision for the whole device")
    demo.wherry("init", "--name", "kiosk", str(KIOSK))
    shutil.copytree(TEMPLATE, KIOSK, dirs_exist_ok=True)
    demo.wherry("status", cwd=KIOSK)


def serve(demo: Demo) -> None:
    """Starts the hub and logs in."""
    demo.story.chapter("A hub: one process, one folder")
    demo.wherry("hub", "init", str(WORK / "hub"))
    ready = WORK / "hub.url"
    demo.start(
        "hub",
        "hub",
        "serve",
        "--dir",
        str(WORK / "hub"),
        "--listen",
        "127.0.0.1:0",
        "--ready-file",
        str(ready),
        "--poll-interval",
        "30s",
    )
    demo.wait("the hub to listen", ready.exists, 30)
    demo.hub_url = ready.read_text().strip()
    demo.story.good(f"the dashboard is at {demo.hub_url}")
    demo.wherry("fleet", "login", demo.hub_url, "--user", "admin")
    demo.wherry("remote", "add", "origin", demo.hub_url, cwd=KIOSK)


def enrol(demo: Demo) -> None:
    """Lets one device in."""
    demo.story.chapter("A device: it asks to be let in, a person accepts")
    token = json.loads(demo.wherry("fleet", "token", "create", "--json", show=False))["token"]
    (WORK / "token").write_text(token)
    (WORK / "token").chmod(0o600)
    (WORK / "owner.pub").write_text(demo.wherry("key", "public", str(KIOSK / ".wherry/key")))
    demo.wherry(
        "device",
        "enroll",
        "--dir",
        str(DEVICE),
        "--hub",
        demo.hub_url,
        "--token-file",
        str(WORK / "token"),
        "--trust",
        str(WORK / "owner.pub"),
        "--name",
        "kiosk-1",
    )
    demo.start("device", "device", "run", "--dir", str(DEVICE))
    demo.wherry("fleet", "devices")
    demo.wherry("fleet", "accept", "kiosk-1")


def first(demo: Demo) -> str:
    """Deploys revision 1."""
    demo.story.chapter("Revision 1: committed, signed, pushed, deployed")
    one = demo.commit("the first kiosk")
    demo.wherry("fleet", "assign", "kiosk-1", one)
    demo.wait("revision 1 to be committed by the device", lambda: demo.settled(one, "done"))
    demo.wherry("fleet", "devices")
    demo.story.good(f"{PAGE} says: {demo.page()}")
    return one


def second(demo: Demo) -> str:
    """Updates one line of one file."""
    story = demo.story
    story.chapter("Revision 2: one line changes, one app restarts")
    before = demo.containers()
    page = KIOSK / "config/web/kiosk/site/index.html"
    page.write_text(page.read_text().replace("revision 1", "revision 2"))
    demo.wherry("diff", cwd=KIOSK)
    two = demo.commit("a new headline")
    began = time.monotonic()
    demo.wherry("fleet", "assign", "kiosk-1", two)
    demo.wait("revision 2 to be committed by the device", lambda: demo.settled(two, "done"))
    took = time.monotonic() - began
    after = demo.containers()
    story.good(
        f"{PAGE} says: {demo.page()}   ({took:.1f} s after the order, {_wire_bytes(demo):,} bytes over the wire)"
    )
    for name in sorted(after):
        old, new = before[name]["pid"], after[name]["pid"]
        story.good(
            f"{name}: " + (f"not touched, runs on as pid {old}" if old == new else f"restarted, pid {old} -> {new}")
        )
    return two


def third(demo: Demo, two: str) -> None:
    """Breaks the web server, and sees the device go back."""
    story = demo.story
    story.chapter("Revision 3: broken on purpose, and undone by the device itself")
    conf = KIOSK / "config/web/kiosk/nginx.conf"
    good = conf.read_text()
    conf.write_text(good.replace("listen 80;", "lisen 80;"))
    three = demo.commit("a typo in the web server's configuration")
    demo.wherry("fleet", "assign", "kiosk-1", three)
    demo.wait("the device to roll back", lambda: demo.settled(two, "rolled-back"))
    demo.wherry("fleet", "history", "kiosk-1")
    story.good(f"the device is back on revision 2, and {PAGE} says: {demo.page()}")
    conf.write_text(good)


def fourth(demo: Demo) -> None:
    """Cuts the power of the device between two steps of an update."""
    story = demo.story
    story.chapter("Revision 4: the device loses power in the middle of the update")
    page = KIOSK / "config/web/kiosk/site/index.html"
    page.write_text(page.read_text().replace("revision 2", "revision 4"))
    demo.stop("device")
    four = demo.commit("after the power cut")
    demo.start("device", "device", "run", "--dir", str(DEVICE), WHERRY_TRACE=f"{POWER_CUT}=kill")
    demo.wherry("fleet", "assign", "kiosk-1", four)
    demo.wait("the power cut", lambda: not demo.running("device"))
    story.good(f"killed at the trace point {POWER_CUT} (exit status {demo.stop('device')})")
    demo.start("device", "device", "run", "--dir", str(DEVICE))
    demo.wait("revision 4 to be committed by the device", lambda: demo.settled(four, "done"))
    story.good(f"started again, it finished the update: {PAGE} says: {demo.page()}")
    demo.wherry("device", "status", "--dir", str(DEVICE), lines=20)


POWER_CUT = "device.switch.started"


def proof(demo: Demo) -> None:
    """What an outsider's tools say."""
    demo.story.chapter("What the others say")
    demo.story.run(["ostree", "fsck", "--repo", str(WORK / "hub/repo")])
    picture = browser.screenshot(demo.hub_url, "admin", HUB_PASSWORD, WORK / "dashboard.png")
    demo.story.good(f"a picture of the dashboard: {picture.relative_to(PROJECT)}")


def _wire_bytes(demo: Demo) -> int:
    return int(demo.device().get("bytes_done", 0))


def end(demo: Demo, before: dict[str, list[str]]) -> None:
    """Stops everything, and shows that nothing is left."""
    demo.story.chapter("Cleaning up")
    demo.stop("device")
    demo.wherry("device", "down", "--dir", str(DEVICE))
    demo.stop_all()
    after = leftovers.snapshot()
    left = [f"{kind}: {item}" for kind, items in after.items() for item in items if item not in before[kind]]
    if left:
        raise SystemExit("demo: left behind: " + ", ".join(left))
    demo.story.good("no mount, cgroup, link, rule, namespace or process is left behind")


def keep(demo: Demo) -> None:
    """Leaves everything running, and says how to end it."""
    print(f"\nThe dashboard:  {demo.hub_url}   user admin, password {HUB_PASSWORD}")
    print(f"The device:     {PAGE}")
    print("Press Ctrl-C to end both.", flush=True)
    try:
        signal.pause()
    except KeyboardInterrupt:
        print()


def main() -> None:
    """Tells the story."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--keep", action="store_true", help="leave the dashboard and the device running until Ctrl-C")
    arguments = parser.parse_args()
    if os.geteuid() != 0:
        raise SystemExit("demo: containers need root; run it as root")
    shutil.rmtree(WORK, ignore_errors=True)
    WORK.mkdir(parents=True)
    before = leftovers.snapshot()
    story = Story(log=WORK / "story.log")
    demo = Demo(story)
    try:
        build(demo)
        serve(demo)
        enrol(demo)
        first(demo)
        two = second(demo)
        third(demo, two)
        fourth(demo)
        proof(demo)
        if arguments.keep:
            keep(demo)
        end(demo, before)
    finally:
        demo.stop_all()
        subprocess.run(
            [WHERRY, "device", "down", "--dir", str(DEVICE)],
            env={**os.environ, **ENV},
            capture_output=True,
            check=False,
        )
    story.summary()


if __name__ == "__main__":
    main()
