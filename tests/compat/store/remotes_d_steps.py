"""What test_remotes_d.py has a program do in a root of its own. Prints, as JSON, what came of each step."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

SYSTEM, OTHER, LINKED = Path("/ostree/repo"), Path("/srv/repo"), Path("/srv/link")
FOLDER = Path("/etc/ostree/remotes.d")


def main() -> None:
    program = json.loads(sys.argv[1])
    found: list[object] = []

    def step(*args: str, repo: Path = SYSTEM) -> None:
        done = subprocess.run([*program, *args[:2], f"--repo={repo}", *args[2:]], capture_output=True, text=True)
        found.append([args, str(repo), done.returncode, done.stdout])
        if "Multiple specifications" in done.stderr:
            found.append("refused: it stands twice")

    def files() -> None:
        texts = {str(file): sorted(file.read_text().split()) for file in [*FOLDER.rglob("*.conf"), OTHER / "config"]}
        found.append([sorted(texts.items()), "remote" in (SYSTEM / "config").read_text()])

    shutil.rmtree(FOLDER.parent, ignore_errors=True)
    SYSTEM.parent.mkdir()
    OTHER.parent.mkdir(exist_ok=True)
    for repo in (SYSTEM, OTHER):
        subprocess.run([*program, "init", f"--repo={repo}", "--mode=bare-user"], check=True, capture_output=True)
    LINKED.symlink_to(SYSTEM)

    step("remote", "add", "a", "http://host/a", "main")  # makes the folder
    step("remote", "add", "--no-gpg-verify", "b", "http://host/b", repo=OTHER)
    files()
    (FOLDER / "by-hand.conf").write_text('# by hand\n[remote "c"]\nurl=http://host/c\ngpg-verify=false\n')
    (FOLDER / "not-a-conf.txt").write_text('[remote "d"]\nurl=http://host/d\n')
    (FOLDER / "folder.conf").mkdir()
    for repo in (SYSTEM, LINKED, OTHER):
        step("remote", "list", repo=repo)
        step("remote", "list", "-u", repo=repo)
    step("remote", "show-url", "c")
    step("remote", "show-url", "c", repo=OTHER)
    step("remote", "show-url", "d")
    step("remote", "add", "a", "http://host/again")
    step("remote", "add", "--if-not-exists", "a", "http://host/again")
    step("remote", "add", "--force", "--no-gpg-verify", "a", "http://host/forced")
    step("remote", "show-url", "a")
    (FOLDER / "folder.conf").rmdir()
    files()
    step("remote", "delete", "c")
    step("remote", "delete", "b", repo=OTHER)
    step("remote", "delete", "b")
    step("remote", "delete", "--if-exists", "b")
    files()
    subprocess.run([*program, "config", f"--repo={SYSTEM}", "set", "core.add-remotes-config-dir", "false"], check=True)
    step("remote", "add", "e", "http://host/e")
    step("remote", "list")
    files()
    (FOLDER / "again.conf").write_text('[remote "e"]\nurl=http://host/twice\n')
    step("remote", "list")
    step("remote", "list", repo=OTHER)
    (FOLDER / "again.conf").write_text("what is this\n")
    step("remote", "list")
    print(json.dumps(found))


if __name__ == "__main__":
    main()
