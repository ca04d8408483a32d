"""The pages that come from the code are up to date, and no link is broken."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def test_generated_pages_and_links() -> None:
    script = Path(__file__).parents[3] / "docs/generate.py"
    done = subprocess.run([sys.executable, str(script), "--check"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
