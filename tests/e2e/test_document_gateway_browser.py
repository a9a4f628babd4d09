"""A person in front of the document gateway: Debian's Chromium, the real service, and a server in place of Alfresco."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By

from examples.document_gateway.content_server import DOCUMENTS, PAGE, REPORT, content_server, serving
from tests.support.api import Api
from tests.support.browser import chromium
from tests.support.gateway_world import CONTENT, World, gateway_world
from tests.support.waiting import wait_until

PDF = DOCUMENTS[REPORT].content


@pytest.fixture(scope="module")
def world(service: str, api: Api) -> Iterator[World]:
    with serving(content_server(*CONTENT.values())) as content, gateway_world(service, api.client(), content) as world:
        yield world


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    downloads = tmp_path_factory.mktemp("browser")
    with chromium(downloads) as browser:
        browser.downloads = downloads
        yield browser


def shown(browser: webdriver.Chrome) -> str:
    return browser.find_element(By.TAG_NAME, "h1").text


def saved(browser: Any, name: str) -> bytes:
    """Return what the browser saved: it makes an empty file of the name first, and moves the whole one over it."""
    path: Path = browser.downloads / name
    return wait_until(lambda: path.read_bytes() if path.exists() else b"")


def test_a_person_opens_presses_and_comes_back(browser: webdriver.Chrome, world: World) -> None:
    link, issued = world.link(metadata={"name": "The issuer's name.pdf"})
    browser.get(link)
    assert shown(browser) == "The issuer's name.pdf"
    assert world.uses(issued) == 0
    browser.find_element(By.TAG_NAME, "button").click()
    assert saved(browser, "The issuer's name.pdf") == PDF
    assert browser.find_element(By.CSS_SELECTOR, "[role=status]").text.startswith("Your download has begun.")
    assert browser.current_url == link, "whoever copies it has no more than the link"
    browser.find_element(By.LINK_TEXT, "download it again").click()
    assert saved(browser, "The issuer's name (1).pdf") == PDF
    assert world.uses(issued) == 1
    browser.get(link)
    assert shown(browser) == "This link has been used"
    complaints = [entry for entry in browser.get_log("browser") if "favicon" not in entry["message"]]
    assert [entry for entry in complaints if "410" not in entry["message"]] == []
    # All that went over the browser's lines, headers and bodies of pages included, and no document id in it.
    assert REPORT not in json.dumps(browser.get_log("performance"))


def test_a_document_that_is_a_page_is_saved_and_never_shown(browser: webdriver.Chrome, world: World) -> None:
    link, _ = world.link(PAGE)
    browser.get(link)
    browser.find_element(By.TAG_NAME, "button").click()
    assert saved(browser, "notes.html") == DOCUMENTS[PAGE].content
    assert browser.title == "Document for you"


def test_the_pages_fit_a_phone_and_a_desk(browser: webdriver.Chrome, world: World, tmp_path: Path) -> None:
    """With SCREENSHOTS=docs/images it renews the pictures in the gateway's README."""
    directory = Path(os.environ.get("SCREENSHOTS") or tmp_path)
    link, issued = world.link(metadata={"name": "Annual report 2026, with the auditors' remarks.pdf"})
    used, spent = world.link()
    world.tokens.use(spent.token, action="download")
    for place, width, height, is_phone in (("phone", 390, 700, True), ("desktop", 1280, 720, False)):
        metrics = {"width": width, "height": height, "deviceScaleFactor": 2 if is_phone else 1, "mobile": is_phone}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        for name, address in (("open", link), ("used-up", used)):
            browser.get(address)
            assert browser.execute_script("return document.documentElement.scrollWidth") <= width
            button = browser.find_elements(By.TAG_NAME, "button")
            assert [one.rect["height"] >= 44 for one in button] == [True] * (name == "open")  # a thumb's size
            assert browser.save_screenshot(str(directory / f"gateway-{name}-{place}.png"))
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    assert world.uses(issued) == 0
