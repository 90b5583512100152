"""What stands before the story begins: the system up, models, plans, a second person, and the fleet."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import count
from pathlib import Path

import numpy as np

from deploy.cli.client import ControlPlane
from deploy.fleet.chances import Even
from deploy.fleet.devices import fleet_of
from deploy.fleet.driver import Driver
from deploy.fleet.population import SELECTORS
from tests.chaos import stack as stacks
from tests.chaos.stack import APPLICATION, CHANNEL, Stack, until
from tests.chaos.story import APPS, DEVICES, MODELS, NEW, OLD, PLANS, SEED, Story
from tests.chaos.story_timeline import printed

SETTINGS = "tests.chaos.story_settings"
MOST_TELLINGS = 3  # chance holds one in a hundred or so
HOOK = "https://hooks.invalid/story"  # nobody is there: what would be said is looked at where it waits
GRACE = """
from datetime import timedelta
from pathlib import Path
from django.contrib.auth import get_user_model
from django.utils import timezone
from registry.models import ApiToken
grace = get_user_model().objects.create_superuser("grace")
now = timezone.now()
_, token = ApiToken.issue(user=grace, name="story", now=now, expires_at=now + timedelta(days=1))
Path({path!r}).write_text(token)
"""


@contextmanager
def stage(folder: Path, say: Callable[[str], None] = lambda _line: None) -> Iterator[Story]:
    """The system up, four models with version 1 current and version 2 planned, and the fleet that has version 1."""
    with stacks.running(folder / "var", SETTINGS) as stack:
        say(f"{datetime.now(UTC):%H:%M:%S}  all programs run")
        _make_classes(stack)
        _make_models(stack, folder)
        grace = folder / "grace"
        stack.manage("shell", "--command", GRACE.format(path=str(grace)))
        stack.server.create_webhook("story", HOOK, [])
        for model, steps in PLANS.items():
            design = {"slug": f"{model}-v2", "channel": CHANNEL, "model": model, "version": NEW, "steps": list(steps)}
            stack.server.write("POST", "rollouts", design)
        devices = fleet_of(DEVICES, APPS, Even(), seed=SEED)
        second = ControlPlane(stack.web_url, grace.read_text().strip(), APPLICATION)
        with second.http, Driver(stack.device_url, APPLICATION, CHANNEL, devices) as fleet:
            yield Story(stack, fleet, second, say)


@contextmanager
def told_story(folder: Path, say: Callable[[str], None] = lambda _line: None) -> Iterator[Story]:
    """The story at its end, its system still up. Its timeline is told, whatever came."""
    for number in count(1):
        with stage(_made(folder / str(number)), say) as story:
            try:
                _tell(story, say)
            except AssertionError:
                if number == MOST_TELLINGS or not story.is_held_by_chance():
                    raise
                say("the split of units is as skewed as one in a thousand is: once more, with other buckets")
                continue
            yield story
            return


def _made(folder: Path) -> Path:
    """Of a short name: addresses of sockets below it have their bounds."""
    folder.mkdir()
    return folder


def _tell(story: Story, say: Callable[[str], None]) -> None:
    began = time.monotonic()
    try:
        story.tell()
    finally:
        story.seconds = time.monotonic() - began
        say("\n".join(["", "Timeline", *printed(story.timeline())]))


def _make_classes(stack: Stack) -> None:
    """Those of the fleet before all others."""
    known = [row["name"] for row in stack.server.device_classes()]
    variants = stack.server.device_class(known[-1])["variants"]
    for name, selector in SELECTORS.items():
        body = {"name": name, "selector": dict(selector), "variants": variants, "delegate_order": []}
        stack.server.save_device_class(body, is_new=True)
    stack.server.order_device_classes([*SELECTORS, *known])


def _make_models(stack: Stack, folder: Path) -> None:
    """Two versions each, of one layer: the conversions are as real as the rest, and take a second."""
    from tests.sdk.tiny_tflite import float_model

    path = folder / "tiny.tflite"
    path.write_bytes(float_model(np.arange(12, dtype=np.float32).reshape(3, 4)))
    numbers = [(model, stack.server.push(model=model, source=path, recipes=["tflite-as-is"])["number"])
               for _ in (OLD, NEW) for model in MODELS]  # fmt: skip
    for model, number in numbers:
        until(lambda model=model, number=number: not stack.open_jobs(model, number), f"{model}:{number}")
    for model in MODELS:
        stack.server.publish(CHANNEL, model, OLD, "the story begins")
    query = f"models={','.join(MODELS)}&os=android&runtime=litert&runtime_version=2.3.0"

    def are_served() -> bool:
        answer = stack.http.get(f"{stack.app_url}/channels/{CHANNEL}/manifests?{query}").json()["models"]
        return all(entry["manifest"] is not None for entry in answer.values())

    until(are_served, "version 1 of every model at devices")
