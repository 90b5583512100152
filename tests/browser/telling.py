"""What people do with experiments in the browser, sentence by sentence, and what a fleet of devices reports."""

from deploy.fleet.chances import Even
from deploy.fleet.devices import fleet_of
from deploy.fleet.driver import Driver
from deploy.fleet.population import EVERY, App, Faults
from tests.browser.watching import Watched
from tests.chaos.stack import APPLICATION, CHANNEL, Stack, until

FLEET = 1_200
UNIT = "c0ffee00-0000-4000-8000-000000000001"

# Runs in the page: whether the smallest arm has more units than `least` by now.
MEASURED = """(least) => [...document.querySelectorAll("#standing .ag-tile")].some((tile) =>
  tile.textContent.includes("smallest arm") &&
  Number(tile.querySelector("b").textContent.replace(/\\D/g, "")) > least)"""


def wait_for_state(watched: Watched, state: str) -> None:
    """The page follows by itself: nothing is loaded again here."""
    watched.page.wait_for_selector(f"#standing h2 .ag-state:text-is('{state}')")


def design_rollout(watched: Watched, name: str, *, version: int) -> None:
    page = watched.page
    watched.open("Design")
    if page.locator("#what option").first.inner_text() == "choose…":
        page.select_option("#what", label="digits on demo/production")
    page.wait_for_selector("[name=slug]")
    page.fill("[name=slug]", name)
    page.select_option("[name=version]", label=f"digits:{version}")
    page.fill("[name=hypothesis]", "half as large, and nobody notices")
    watched.shoot("rollout-design")
    watched.press("Write it down")
    wait_for_state(watched, "draft")


def say(watched: Watched, verb: str, *, state: str, reason: str = "the story") -> None:
    """A verb on its own page, which says first what it would change; then the page of the experiment."""
    _open(watched, verb)
    _confirm(watched, verb, reason)
    wait_for_state(watched, state)


def ramp(watched: Watched, percent: str) -> None:
    _open(watched, "Ramp")
    watched.page.locator(".ag-shortcuts").get_by_role("link", name=f"{percent} %", exact=True).click()
    watched.shoot("rollout-ramp")
    _confirm(watched, f"Ramp to {percent} %", "everybody at once, it is a story")
    watched.page.wait_for_selector(f"#standing .ag-tile b:text-is('{percent} %')")


def devices_report(watched: Watched, stack: Stack) -> None:
    """A harmless version on devices of three kinds, whose apps crash now and then; the page follows by itself."""
    app = App("digits", 1, usual=Faults(crash={EVERY: 0.02}, download_loss={EVERY: 0.005}))
    with Driver(stack.device_url, APPLICATION, CHANNEL, fleet_of(FLEET, [app], Even())) as fleet:
        fleet.visit()
        until(lambda: fleet.flush() == 0, "the server to take all events")
    assert not fleet.tally.errors
    # Chance decides which devices are of an arm; far fewer than half of half of them are never in one.
    watched.page.wait_for_function(MEASURED, arg=FLEET // 4)


def halt_class(watched: Watched, name: str) -> None:
    _open(watched, "Halt")
    watched.page.select_option("[name=device_class]", name)  # the form sends itself
    watched.page.wait_for_url(f"**device_class={name}**")
    _confirm(watched, f"Halt for {name}", "it drains old batteries")
    watched.page.wait_for_selector(f".ag-events :text('{name}')")


def ask_for_release(watched: Watched, *, version: int) -> None:
    """Where somebody else must approve, publishing is a request; this one is taken back."""
    page = watched.page
    watched.open("Publish")
    page.select_option("#version", label=f"demo · digits:{version}")
    page.wait_for_selector("[name=reason]")
    page.fill("[name=reason]", "for all of them")
    watched.press(f"Publish digits:{version}")
    page.wait_for_selector(".ag-state:text-is('waiting for approval')")
    watched.press("Cancel the request")
    page.wait_for_selector(".ag-state:text-is('cancelled')")


def hold_back(watched: Watched) -> None:
    page = watched.page
    watched.open("Holdbacks")
    page.goto(f"{watched.base}/admin/experiments/holdback/add/?what=1:1")
    page.select_option("[name=version]", label="digits:1")
    page.fill("[name=reason]", "to see what releases bring over months")
    page.locator("form[method=post] .ag-primary").click()
    page.wait_for_url("**/holdback/*/change/")


def set_rules(stack: Stack) -> None:
    """A row of each kind that a channel's own rules are of."""
    stack.server.floors(CHANNEL, "digits", [1])
    stack.server.pin(CHANNEL, "digits", {"version": 1, "unit": UNIT, "label": "a tester"})
    stack.server.invite_device(CHANNEL, "Ada's Pixel 8")


def _open(watched: Watched, verb: str) -> None:
    watched.page.locator(".ag-verbs").get_by_role("link", name=f"{verb}…").click()
    watched.page.wait_for_selector("form[method=post] [name=reason]")


def _confirm(watched: Watched, button: str, reason: str) -> None:
    watched.page.fill("form[method=post] [name=reason]", reason)
    watched.press(button)
    watched.page.wait_for_selector("#standing")
