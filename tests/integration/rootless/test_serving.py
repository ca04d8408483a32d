"""The registry endpoint of a user who is not root: it serves, is pushed to, and has no rights left in its namespace."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

from tests.integration.rootless.user import IMAGE, User

from wherry.core.proc import run

TOKEN = "0123456789abcdef"
_START_S = 30


def test_serving_and_pushing(user: User, tmp_path: Path) -> None:
    ready, token = user.home / "ready", user.home / "token"
    user.run("sh", "-c", f"echo {TOKEN} > token")
    words = ("image", "serve", "--listen=127.0.0.1:0", "--ready-file=ready", "--push", "--token-file=token")
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(user.command(*user.program(), *words), stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + _START_S
        while not ready.exists():
            assert process.poll() is None, (tmp_path / "log").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.05)
        domain = ready.read_text().strip().partition("//")[2]
        source = f"docker://{domain}/{IMAGE}"
        run(["skopeo", "copy", "-q", "--src-tls-verify=false", source, f"dir:{tmp_path}/image"])
        run(
            ["skopeo", "copy", "-q", "--dest-tls-verify=false", f"--dest-creds=me:{TOKEN}", f"dir:{tmp_path}/image",
             f"docker://{domain}/pushed:1"]
        )  # fmt: skip
        assert "localhost/pushed" in user.ok("image", "ls")
        serving = [line.split()[0] for line in user.processes() if "--ready-file=ready" in line]
        status = Path(f"/proc/{serving[-1]}/status").read_text()
        assert "CapEff:\t0000000000000000" in status
        assert "CapPrm:\t0000000000000000" in status
    finally:
        process.terminate()
        process.wait(30)
        user.wherry("image", "rm", "localhost/pushed:1")
        for path in (ready, token):
            path.unlink(missing_ok=True)
