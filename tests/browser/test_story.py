"""The story of a release, told with the mouse, against real processes and a device that uses the SDK."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from registry.conversion.plan import FOR_READY_FILES
from registry.conversion.recipes import RECIPES
from tests.browser.conftest import SCREENSHOTS
from tests.chaos.stack import APPLICATION, CHANNEL, Stack, until

pytestmark = [pytest.mark.browser, pytest.mark.convert, pytest.mark.light]
CONVERSION_MILLISECONDS = 300_000
PUBLISH_MILLISECONDS = 60_000
DEFAULT_RECIPES = len([recipe for recipe in RECIPES.values() if not recipe.on_request]) - len(FOR_READY_FILES)
MOST = ("coreml-fp16", "coreml-linear-int8", "coreml-lut-4", "tflite-float16", "tflite-full-int8", *FOR_READY_FILES)
WIDTHS = {"desktop": (1280, 900), "phone": (390, 844)}


class Watched:
    """A page of the browser; what it asks of other hosts and what breaks in it is written down."""

    def __init__(self, browser: Any, stack: Stack, *, width: str = "desktop", theme: str = "light") -> None:
        size = dict(zip(("width", "height"), WIDTHS[width], strict=True))
        self.context = browser.new_context(viewport=size, color_scheme=theme)
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

    def sign_in(self, password: str) -> None:
        self.page.goto(f"{self.base}/")
        self.page.fill("[name=username]", "ada")
        self.page.fill("[name=password]", password)
        self.page.click("#login-form button[type=submit]")
        self.page.wait_for_url("**/admin/")

    def open(self, line: str) -> None:
        """A line of the side bar."""
        self.page.click(f"#nav-sidebar a:has(:text-is('{line}'))")

    def shoot(self, name: str) -> None:
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        self.page.screenshot(path=str(SCREENSHOTS / f"{name}.png"), full_page=True)


@pytest.fixture(scope="module")
def watched(browser: Any, stack: Stack, password: str) -> Iterator[Watched]:
    page = Watched(browser, stack)
    page.sign_in(password)
    yield page
    page.context.close()


@pytest.fixture(scope="module")
def phone(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    from deploy.demo.devices import phones

    root = json.dumps(stack.server.root()).encode()
    stores = tmp_path_factory.mktemp("phones")
    made = phones(server=stack.device_url, application=APPLICATION, channel=CHANNEL, root=root, stores=stores)
    yield next(phone for phone in made if phone.name == "Android, 3 GB")
    for phone in made:
        phone.client.close()


def upload(watched: Watched, trained: Path, *, notes: str, leave_out: tuple[str, ...] = ()) -> None:
    page = watched.page
    watched.open("Upload")
    page.fill("#model", "digits")
    page.set_input_files("[data-role=source] input", trained / "digits.keras")
    page.set_input_files("[data-role=evaluation_set] input", trained / "held-out.npz")
    page.wait_for_selector("[data-role=source].ag-is-good")
    page.wait_for_selector("[data-role=evaluation_set].ag-is-good")
    page.fill("#notes", notes)
    page.fill("#labels", "\n".join("0123456789"))
    if leave_out:
        page.select_option("#profile", label="chosen one by one…")
    for name in leave_out:
        page.uncheck(f"[name=recipe][value={name}]")
    watched.shoot("upload-ready")
    page.click("button[type=submit]:has-text('Register')")
    page.wait_for_url("**/modelversion/*/change/")


def watch_conversions(watched: Watched) -> None:
    """The page follows them by itself: nothing is loaded again here."""
    watched.page.wait_for_selector("#work[data-open]")
    watched.shoot("converting")
    watched.page.wait_for_selector("#work:not([data-open])", timeout=CONVERSION_MILLISECONDS)


# Runs in the page: every text that stood beside a recipe while it ran, however shortly.
NOTE_PROGRESS = """() => {
  window.told = {};
  new MutationObserver(() => document.querySelectorAll("#work [data-recipe]").forEach((line) => {
    const words = line.querySelector("[data-told]");
    if (words) (window.told[line.dataset.recipe] ||= new Set()).add(words.textContent);
  })).observe(document.body, { childList: true, subtree: true, characterData: true });
}"""


def noted(page: Any, recipe: str) -> set[str]:
    return set(page.evaluate("(recipe) => [...(window.told[recipe] || [])]", recipe))


def steer_live(watched: Watched) -> None:
    """Step and percent move in place, a field in use is left alone, and a cancelled recipe runs again."""
    page = watched.page
    page.evaluate(NOTE_PROGRESS)
    line = "#work [data-recipe='coreml-lut-4']"
    page.fill(f"{line} [name=priority]", "-7")
    page.wait_for_function("() => (window.told.trace?.size || 0) > 1", timeout=CONVERSION_MILLISECONDS)
    assert all(re.fullmatch(r"[\w ]+, \d+ %", words) for words in noted(page, "trace")), noted(page, "trace")
    assert page.input_value(f"{line} [name=priority]") == "-7", "typed, and not lost"
    page.click(f"{line} button[value=priority]")
    page.wait_for_selector(f"{line} :text('priority -7')")
    page.click(f"{line} button[value=cancel]")
    page.wait_for_selector(f"{line}[data-state=cancelled]")
    page.click(f"{line} button[value=retry]")
    page.wait_for_selector(f"{line}:not([data-state=cancelled])")


def publish(watched: Watched, version: int) -> None:
    page = watched.page
    page.get_by_role("link", name="Publish…").click()
    assert "everything-else" in page.locator(".ag-table").inner_text()
    page.fill("[name=reason]", "the story")
    watched.shoot(f"publish-{version}")
    page.get_by_role("button", name=f"Publish digits:{version} to demo/production").click()
    page.wait_for_selector("#way .ag-state:text-is('live')", timeout=PUBLISH_MILLISECONDS)
    watched.shoot(f"released-{version}")


def expect_on(phone: Any, version: int | None, state: str | None = None) -> None:
    def is_so() -> bool:
        outcome = phone.update("digits")
        return outcome.version == version and (state is None or outcome.state == state)

    until(is_so, f"version {version} on the device", 30, every_seconds=0.3)


def test_a_wrong_file_is_told_before_the_form_is_sent(watched: Watched, trained: Path) -> None:
    watched.open("Upload")
    watched.page.set_input_files("[data-role=source] input", trained / "wrong.keras")
    watched.page.wait_for_selector("[data-role=source].ag-is-bad")
    assert "wrong.keras: expected" in watched.page.locator("[data-role=source] .ag-field-error").inner_text()
    assert watched.page.locator("button:has-text('Register')").is_disabled()
    watched.shoot("upload-refused")
    assert not watched.faults


def test_the_story(watched: Watched, stack: Stack, trained: Path, phone: Any) -> None:
    page = watched.page

    upload(watched, trained, notes="two epochs")
    steer_live(watched)
    watch_conversions(watched)
    assert page.locator("#work .ag-table tbody tr").count() == DEFAULT_RECIPES
    assert page.locator(".ag-wide .ag-mark").count() == DEFAULT_RECIPES
    publish(watched, 1)
    expect_on(phone, 1)

    upload(watched, trained, notes="only two variants", leave_out=MOST)
    watch_conversions(watched)
    assert "Changes are against version 1" in page.locator("#work").inner_text()
    watched.shoot("compare")
    publish(watched, 2)
    expect_on(phone, 2)

    stack.server.channel_settings("production", {"lift_approvals_required": 0})  # one person tells the story
    page.get_by_role("link", name="Kill switch…").click()
    page.fill("[name=reason]", "it sees sevens everywhere")
    page.get_by_role("button", name="Engage the kill switch").click()
    page.wait_for_selector(".ag-state:text-is('engaged')")
    watched.shoot("kill-switch")
    expect_on(phone, None)
    watched.open("Home")
    assert "it sees sevens everywhere" in page.locator("#home").inner_text()
    watched.shoot("home-stopped")

    page.locator("#home").get_by_role("link", name="kill switch").click()
    page.get_by_role("link", name="Lift…").click()
    page.fill("[name=reason]", "it was the camera")
    page.get_by_role("button", name="Lift the kill switch").click()
    page.wait_for_selector(".ag-state:text-is('lifted')")
    expect_on(phone, 2)

    watched.open("Roll back")
    page.select_option("#what", label="digits on demo/production")
    page.fill("[name=reason]", "slower on old devices")
    watched.shoot("roll-back")
    page.get_by_role("button", name="Roll back to digits:1").click()
    page.wait_for_selector("#way .ag-state:text-is('live')", timeout=PUBLISH_MILLISECONDS)
    expect_on(phone, 1)

    watched.open("Audit log")
    log = page.locator("#content").inner_text()
    assert "The chain holds" in log
    for told in ("it sees sevens everywhere", "it was the camera", "slower on old devices"):
        assert told in log
    verbs = [verb for (verb,) in stack.rows("SELECT verb FROM registry_auditentry WHERE actor = 'ada' ORDER BY id")]
    release, steering = ["register_version", "publish"], ["prioritise_job", "cancel_job", "retry_job"]
    assert verbs == [release[0], *steering, release[1], *release, "engage_kill_switch", "lift_kill_switch", "roll_back"]
    assert not watched.faults


PAGES = {
    "home": "/admin/",
    "models": "/admin/registry/registeredmodel/",
    "model": "/admin/registry/registeredmodel/1/change/",
    "versions": "/admin/registry/modelversion/",
    "version": "/admin/registry/modelversion/1/change/",
    "against": "/admin/registry/modelversion/2/change/",
    "compare": "/admin/registry/modelversion/2/compare/",
    "recipes": "/admin/registry/modelversion/1/recipes/",
    "gates": "/admin/registry/registeredmodel/1/gates/",
    "profiles": "/admin/registry/registeredmodel/1/profiles/",
    "upload": "/admin/registry/modelversion/add/",
    "yank": "/admin/registry/modelversion/1/yank/",
    "device-classes": "/admin/registry/deviceclass/",
    "device-class": "/admin/registry/deviceclass/1/change/",
    "match": "/admin/registry/deviceclass/match/?application=demo&os=android&runtime=litert&ram_mb=3072",
    "publish": "/admin/distribution/release/add/?version=2",
    "releases": "/admin/distribution/release/",
    "release": "/admin/distribution/release/1/change/",
    "roll-back": "/admin/distribution/release/roll-back/?what=1:1",
    "kill-switches": "/admin/distribution/killswitch/",
    "engage": "/admin/distribution/killswitch/add/?what=1:1",
    "kill-switch": "/admin/distribution/killswitch/1/change/",
    "revisions": "/admin/distribution/revision/",
    "audit-log": "/admin/registry/auditentry/",
    "application": "/admin/registry/application/1/change/",
}


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", WIDTHS)
def test_every_page_fits_its_screen(
    watched: Watched, browser: Any, stack: Stack, password: str, width: str, theme: str
) -> None:
    """After the story, so that there is something to see. The pictures are for people: var/screenshots."""
    own = Watched(browser, stack, width=width, theme=theme)
    own.page.goto(f"{own.base}/")
    own.shoot(f"sign-in-{width}-{theme}")
    own.sign_in(password)
    wider = []
    for name, address in PAGES.items():
        own.page.goto(own.base + address, wait_until="networkidle")
        if own.page.evaluate("document.documentElement.scrollWidth") > WIDTHS[width][0]:
            wider.append(name)
        own.shoot(f"{name}-{width}-{theme}")
    own.page.goto(f"{own.base}/admin/registry/modelversion/999/change/")
    own.shoot(f"not-found-{width}-{theme}")
    own.context.close()
    assert not wider
    assert [fault for fault in own.faults if "/999/" not in fault] == []
