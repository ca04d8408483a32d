"""A picture of the dashboard, by a real Chromium that logs in as a person does."""

from __future__ import annotations

from pathlib import Path

CHROMIUM = "/usr/bin/chromium"
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-background-networking",
    "--disable-component-update",
]


def screenshot(url: str, user: str, password: str, out: Path) -> Path:
    """Logs in to the hub at `url` and writes the devices page to `out` as PNG."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = chromium.new_page(viewport={"width": 1200, "height": 760}, device_scale_factor=1.5)
        page.goto(url)
        page.get_by_label("Name").fill(user)
        page.get_by_label("Password").fill(password)
        page.get_by_role("button").first.click()
        page.get_by_text("kiosk-1").first.click()
        page.wait_for_load_state("load")
        page.screenshot(path=out)
        chromium.close()
    return out
