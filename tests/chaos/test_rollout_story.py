"""One running system, four rollouts, no hand on it: `tests.chaos.story` tells it once, each check looks at its end."""

import sys

import pytest

pytest.register_assert_rewrite("tests.chaos.story_checks")

from tests.chaos.conftest import place_of_its_own  # noqa: E402
from tests.chaos.story_checks import CHECKS  # noqa: E402
from tests.chaos.story_stage import told_story  # noqa: E402

pytestmark = [pytest.mark.chaos, pytest.mark.database, pytest.mark.light]


@pytest.fixture(scope="module")
def story(request):
    """Told once; a system of its own, for the other tests' events are none of it."""
    # What is written is shown when something failed.
    with place_of_its_own() as folder, told_story(folder, lambda line: sys.stdout.write(f"{line}\n")) as told:
        yield told


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_story(story, check):
    check(story)


def test_it_is_told_in_order(story, figures):
    lines = story.timeline()
    assert [line.at for line in lines] == sorted(line.at for line in lines)
    tally = story.fleet.tally
    figures(
        f"{len(story.fleet.devices)} devices, {tally.polls} polls, {tally.events} events in {story.seconds:.0f} s; "
        f"{tally.refused} batches put off, {story.batches_waiting_at_kill} waited when the ingester was killed"
    )
