"""A real hub and a real Chromium; the hub's own fixtures are those of its integration tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, sync_playwright
from tests.integration.hub.conftest import PASSWORD, HubProcess, hub, made_hub, make_device, repo, start_hub

__all__ = ["hub", "made_hub", "make_device", "repo", "start_hub"]

CHROMIUM = "/usr/bin/chromium"
WAIT_MS = 10_000


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield found
        found.close()


@pytest.fixture
def open_page(browser: Browser, hub: HubProcess) -> Iterator[Callable[..., Page]]:
    """Opens the dashboard, logged in; whatever the browser complains of fails the test."""
    complaints: list[str] = []
    contexts = []

    def open_(*, width: int = 1280, login: bool = True, **options: Any) -> Page:
        context = browser.new_context(viewport={"width": width, "height": 800}, **options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(WAIT_MS)
        page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(f"{hub.url}/")
        if login:
            page.get_by_label("Name").fill("admin")
            page.get_by_label("Password").fill(PASSWORD)
            page.get_by_role("button", name="Log in").click()
            page.get_by_role("heading", name="Devices", exact=True).wait_for()
        return page

    yield open_
    for context in contexts:
        context.close()
    # Chromium reports every answer with an error status, and a hub that was stopped, as an error of its own.
    assert [text for text in complaints if not text.startswith("Failed to load resource")] == []
