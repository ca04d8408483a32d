"""The dashboard in a real browser."""

from __future__ import annotations

import re
import time
from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect
from tests.integration.hub.conftest import Device, HubProcess, make_revision, push

from wherry.spec.wire import AppReport, UpdateState
from wherry.store.repository import Repository

OpenPage = Callable[..., Page]


def mark(page: Page) -> None:
    """Leaves a mark that a reload of the page would lose."""
    page.evaluate("window.marked = true")


def assert_not_reloaded(page: Page) -> None:
    assert page.evaluate("window.marked") is True


def test_wrong_password_then_right(hub: HubProcess, open_page: OpenPage) -> None:
    page = open_page(login=False)
    page.goto(f"{hub.url}/revisions")
    page.get_by_label("Name").fill("admin")
    page.get_by_label("Password").fill("wrong")
    page.get_by_role("button", name="Log in").click()
    expect(page.get_by_role("alert")).to_contain_text("not the right name and password")
    page.get_by_label("Password").fill("a long enough password")
    page.get_by_role("button", name="Log in").click()
    expect(page).to_have_url(f"{hub.url}/revisions")
    page.get_by_role("button", name="Log out").click()
    page.goto(f"{hub.url}/devices")
    expect(page.get_by_role("heading", name="Log in")).to_be_visible()


def test_accept_assign_and_watch_live(
    hub: HubProcess, repo: Repository, open_page: OpenPage, make_device: Callable[..., Device]
) -> None:
    person = hub.login()
    commit, component = make_revision(repo, subject="first light")
    push(person, repo, commit, component)
    page = open_page()
    expect(page.get_by_text("No devices yet")).to_be_visible()
    expect(page.locator("#live")).to_have_text(re.compile("live$"))
    mark(page)
    device = make_device("kiosk-7", accepted=False)
    needs = page.get_by_role("region", name="Needs you")
    expect(needs.get_by_text("kiosk-7")).to_be_visible()
    assert_not_reloaded(page)

    needs.get_by_role("button", name="Accept").click()
    expect(page.get_by_role("status")).to_contain_text("accepted")
    expect(page.get_by_role("region", name="Needs you")).to_have_count(0)
    device.session()
    page.get_by_role("link", name="kiosk-7").click()
    page.get_by_role("combobox", name="Revision").select_option(commit)
    page.get_by_role("button", name="Assign").click()
    expect(page.get_by_role("status")).to_contain_text("order is given")

    mark(page)
    number = device.desired()["assignment"]
    head = page.locator("#device-head")
    device.report(
        UpdateState.FETCHING, assignment=number, running=None, revision=commit, bytes_done=30, bytes_total=120
    )
    expect(head).to_contain_text("Fetching")
    expect(page.locator("progress")).to_have_attribute("value", "25")
    began = time.monotonic()
    apps = (AppReport(name="web", state="running", health="healthy"),)
    device.report(UpdateState.DONE, assignment=number, running=commit, revision=commit, apps=apps)
    expect(head).to_contain_text("Up to date")
    assert time.monotonic() - began < 3
    expect(page.locator("#apps")).to_contain_text("healthy")
    expect(page.locator("#history")).to_contain_text("Done")
    expect(page.locator("#said")).to_have_text("kiosk-7: Up to date")
    assert_not_reloaded(page)

    device.report(
        UpdateState.ROLLED_BACK, assignment=number, running=commit, revision=commit, detail="<b>web</b> is unwell"
    )
    expect(page.locator("#state")).to_contain_text("<b>web</b> is unwell")  # shown, not interpreted
    assert_not_reloaded(page)


def test_live_updates_survive_a_restart_of_the_hub(
    hub: HubProcess, open_page: OpenPage, make_device: Callable[..., Device]
) -> None:
    page = open_page()
    expect(page.locator("#live-word")).to_have_text("live")
    mark(page)
    hub.stop()
    expect(page.locator("#live-word")).to_have_text("reconnecting")
    hub.start()
    make_device("late", accepted=False)
    expect(page.locator("#needs")).to_contain_text("late", timeout=15_000)
    assert_not_reloaded(page)


@pytest.mark.parametrize("width", [360, 390, 768, 1280])
def test_no_page_scrolls_sideways(
    hub: HubProcess, repo: Repository, open_page: OpenPage, make_device: Callable[..., Device], width: int
) -> None:
    person = hub.login()
    commit, component = make_revision(repo, subject="a subject of many words that has to go somewhere " * 3)
    push(person, repo, commit, component)
    make_device("a-device-with-a-name-that-is-as-long-as-names-may-be-63-letters", accepted=False)
    device = make_device("w" * 63)
    number = person.json("PUT", f"/api/v1/devices/{device.id}/desired", {"revision": commit})["assignment"]
    device.report(
        UpdateState.FAILED, assignment=number, running=None, revision=commit, detail="no/space/in/this/reason" * 20
    )
    page = open_page(width=width)
    for path in ("/devices", f"/devices/{device.id}", "/revisions", "/enrol", "/devices/nothing-of-this-name"):
        response = page.goto(hub.url + path)
        assert response is not None
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), path
        assert (response.status == 404) == path.endswith("name")


def test_a_token_is_made_and_shown_once(hub: HubProcess, open_page: OpenPage) -> None:
    page = open_page()
    page.get_by_role("link", name="Add devices").click()
    page.get_by_label("How many devices").fill("3")
    page.get_by_label("Note").fill("lobby")
    page.get_by_role("button", name="Make a token").click()
    command = page.locator("#command").inner_text()
    found = re.search(r"whe_[\w-]{43}", command)
    assert found is not None
    assert f"--hub {hub.url}" in command
    page.goto(f"{hub.url}/enrol")
    assert found[0] not in page.content()
    page.get_by_role("button", name="Revoke").click()
    expect(page.get_by_text("Revoked")).to_be_visible()


def test_works_without_a_script(hub: HubProcess, open_page: OpenPage, make_device: Callable[..., Device]) -> None:
    make_device("plain", accepted=False)
    page = open_page(java_script_enabled=False)
    page.get_by_role("button", name="Accept").click()
    page.get_by_role("link", name="plain").click()
    page.get_by_text("Forget this device").click()
    page.get_by_role("button", name="Forget plain").click()
    expect(page.get_by_text("No devices yet")).to_be_visible()


def test_what_is_typed_and_opened_survives_live_updates(
    hub: HubProcess, repo: Repository, open_page: OpenPage, make_device: Callable[..., Device]
) -> None:
    person = hub.login()
    commit, component = make_revision(repo)
    push(person, repo, commit, component)
    device = make_device("kiosk")
    page = open_page()
    page.get_by_label("Find devices").fill("kio")
    device.report(UpdateState.IDLE, assignment=0, running=commit)
    expect(page.locator("#fleet")).to_contain_text(commit[:8])
    assert page.get_by_label("Find devices").input_value() == "kio"
    page.goto(f"{hub.url}/devices/{device.id}")
    person.json("PUT", "/api/v1/devices/kiosk/desired", {"revision": commit})
    device.report(UpdateState.PLANNING, assignment=1, running=None, revision=commit)
    page.get_by_text("2 steps").click()
    device.report(UpdateState.FETCHING, assignment=1, running=None, revision=commit)
    expect(page.get_by_text("3 steps")).to_be_visible()
    assert page.locator("#history details").first.get_attribute("open") is not None
    page.get_by_role("button", name="Assign").focus()
    device.report(UpdateState.DONE, assignment=1, running=commit, revision=commit)
    expect(page.locator("#device-head")).to_contain_text("Up to date")
    assert page.evaluate("document.activeElement.id") == "assign"
