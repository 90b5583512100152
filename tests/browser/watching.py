"""One person's browser: what it asks of other hosts and what breaks in it is written down."""

import re
from typing import Any

from tests.browser.conftest import SCREENSHOTS
from tests.chaos.stack import Stack

MILLISECONDS = 180_000  # only what fails waits as long
WIDTHS = {"desktop": (1280, 900), "phone": (390, 844)}


class Watched:
    """A page of the browser; what it asks of other hosts and what breaks in it is written down."""

    def __init__(self, browser: Any, stack: Stack, *, width: str = "desktop", theme: str = "light") -> None:
        size = dict(zip(("width", "height"), WIDTHS[width], strict=True))
        self.context = browser.new_context(viewport=size, color_scheme=theme)
        self.context.set_default_timeout(MILLISECONDS)
        self.page = self.context.new_page()
        self.base = stack.web_url
        self.faults: list[str] = []
        self.page.on("request", self._note_request)
        self.page.on("response", self._note_response)
        self.page.on("pageerror", lambda error: self.faults.append(f"script: {error}"))

    def _note_request(self, request: Any) -> None:
        if not request.url.startswith((self.base, "data:", "blob:")):
            self.faults.append(f"another host: {request.url}")

    def _note_response(self, response: Any) -> None:
        is_expected = "/receive/" in response.url and response.status == 400
        if response.status >= 400 and not is_expected:
            self.faults.append(f"{response.status}: {response.url}")

    def sign_in(self, password: str, name: str = "ada") -> None:
        self.page.goto(f"{self.base}/")
        self.page.fill("[name=username]", name)
        self.page.fill("[name=password]", password)
        self.page.click("#login-form button[type=submit]")
        self.page.wait_for_url("**/admin/")

    def open(self, line: str) -> None:
        """A line of the side bar; the whole page is there afterwards."""
        self.page.click(f"#nav-sidebar a:has(:text-is('{line}'))")
        self.page.wait_for_load_state()

    def press(self, words: str) -> None:
        """The button that says this, or begins with it; the whole page is there afterwards."""
        self.page.get_by_role("button", name=re.compile(f"^{re.escape(words)}")).click()
        self.page.wait_for_load_state()

    def shoot(self, name: str) -> None:
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        self.page.screenshot(path=str(SCREENSHOTS / f"{name}.png"), full_page=True)
