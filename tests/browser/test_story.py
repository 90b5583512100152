"""The story of a release, told with the mouse, against real processes and a device that uses the SDK."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from registry.conversion.plan import FOR_READY_FILES
from registry.conversion.recipes import RECIPES
from tests.browser import telling
from tests.browser.conftest import person
from tests.browser.pages import PAGES
from tests.browser.watching import WIDTHS, Watched
from tests.chaos.stack import APPLICATION, CHANNEL, Stack, until

pytestmark = [pytest.mark.browser, pytest.mark.convert, pytest.mark.light]
CONVERSION_MILLISECONDS = 900_000
DEFAULT_RECIPES = len([recipe for recipe in RECIPES.values() if not recipe.on_request]) - len(FOR_READY_FILES)
MOST = ("coreml-fp16", "coreml-linear-int8", "coreml-lut-4", "tflite-float16", "tflite-full-int8", *FOR_READY_FILES)


@pytest.fixture(scope="module")
def watched(browser: Any, stack: Stack, password: str) -> Iterator[Watched]:
    page = Watched(browser, stack)
    page.sign_in(password)
    yield page
    page.context.close()


@pytest.fixture(scope="module")
def grace(browser: Any, stack: Stack) -> Iterator[Watched]:
    """A second pair of eyes."""
    page = Watched(browser, stack)
    page.sign_in(person(stack, "grace"), "grace")
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
    page.wait_for_load_state()
    assert "everything-else" in page.locator(".ag-table").inner_text()
    page.fill("[name=reason]", "the story")
    watched.shoot(f"publish-{version}")
    page.get_by_role("button", name=f"Publish digits:{version} to demo/production").click()
    page.wait_for_selector("#way .ag-state:text-is('live')")
    watched.shoot(f"released-{version}")


def expect_on(phone: Any, version: int | None, state: str | None = None) -> None:
    def is_so() -> bool:
        outcome = phone.update("digits")
        return outcome.version == version and (state is None or outcome.state == state)

    until(is_so, f"version {version} on the device", every_seconds=0.3)


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
    page.wait_for_selector("#way .ag-state:text-is('live')")
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


def test_scripts_and_other_systems_are_let_in(watched: Watched) -> None:
    """The secrets are shown once; what happens later in the stories is told."""
    page = watched.page
    watched.open("Webhooks")
    page.get_by_role("link", name="Add webhook").click()
    page.fill("[name=name]", "ops")
    page.fill("[name=url]", "https://10.0.0.1/")
    watched.press("Make the webhook")
    assert "expected a public address" in page.locator(".ag-field:has([name=url])").inner_text()
    page.fill("[name=url]", "https://hooks.example.invalid/aerogram")
    watched.press("Make the webhook")
    assert page.locator(".ag-secret").inner_text().startswith("whsec_")
    watched.shoot("webhook-secret")
    page.get_by_role("link", name="Done").click()
    watched.press("Send a test")
    page.wait_for_selector("#deliveries :text('webhook.test')")

    watched.open("API tokens")
    page.goto(f"{watched.base}/admin/registry/apitoken/add/")
    page.fill("[name=name]", "nightly training")
    watched.press("Make an API token")
    assert page.locator(".ag-secret").inner_text().startswith("aero_")
    page.get_by_role("link", name="Done").click()
    assert "aero_" not in page.content()
    assert not watched.faults


def test_a_rollout_is_approved_by_another_person_ramped_and_halted(
    watched: Watched, grace: Watched, stack: Stack, phone: Any
) -> None:
    page = watched.page
    telling.design_rollout(watched, "smaller", version=2)
    telling.say(watched, "Submit", state="in review")
    assert "somebody else must say it" in page.locator(".ag-verbs-not").inner_text()
    grace.page.goto(page.url)
    telling.say(grace, "Approve", state="approved")
    telling.wait_for_state(watched, "approved")
    telling.say(watched, "Start", state="running")
    telling.ramp(watched, "50")
    telling.devices_report(watched, stack)
    page.reload()
    watched.shoot("rollout-measured")
    telling.ramp(watched, "100")
    expect_on(phone, 2)

    telling.halt_class(watched, "android-high")
    happened = page.locator(".ag-events").inner_text()
    for told in ("grace", "ada", "it drains old batteries", "android-high"):
        assert told in happened
    watched.shoot("rollout-halted")
    expect_on(phone, 2)  # of another class
    assert not watched.faults
    assert not grace.faults


def test_what_happened_is_told_to_other_systems(watched: Watched, stack: Stack) -> None:
    telling.set_rules(stack)
    telling.hold_back(watched)
    stack.server.channel_settings("production", {"approvals_required": 1})
    telling.ask_for_release(watched, version=2)
    watched.open("Webhooks")
    watched.page.click("#result_list a:text-is('ops')")
    watched.page.wait_for_load_state()
    told = watched.page.locator("#deliveries").inner_text()
    for event in ("webhook.test", "rollout.started", "rollout.advanced", "rollout.halted", "to be tried again"):
        assert event in told
    assert not watched.faults


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
        own.page.goto(own.base + address, wait_until="load")
        if own.page.evaluate("document.documentElement.scrollWidth") > WIDTHS[width][0]:
            wider.append(name)
        own.shoot(f"{name}-{width}-{theme}")
    own.page.goto(f"{own.base}/admin/registry/modelversion/999/change/")
    own.shoot(f"not-found-{width}-{theme}")
    own.context.close()
    assert not wider
    assert [fault for fault in own.faults if "/999/" not in fault] == []
