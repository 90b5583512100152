"""One running system, four rollouts, no hand on it: `tests.chaos.story` tells it once, each check looks at its end."""

import sys
from importlib.util import find_spec

import pytest

pytest.register_assert_rewrite("tests.chaos.story_checks")

from deploy.dev import services  # noqa: E402
from tests.chaos.conftest import _EMBEDDED, _NOT_INHERITED  # noqa: E402
from tests.chaos.story_checks import CHECKS  # noqa: E402
from tests.chaos.story_stage import told_story  # noqa: E402

pytestmark = [pytest.mark.chaos, pytest.mark.database, pytest.mark.light]


@pytest.fixture(scope="module")
def story(request):
    """Told once; a system of its own, for the other tests' events are none of it."""
    missing = [name for name in _EMBEDDED if find_spec(name) is None]
    if missing:
        pytest.skip(f"needs {', '.join(missing)} (extra `embedded`)")
    with pytest.MonkeyPatch.context() as environment, services.throwaway_folder() as folder:
        for name in _NOT_INHERITED:
            environment.delenv(name, raising=False)
        with told_story(folder, lambda line: sys.stdout.write(f"{line}\n")) as told:  # shown when something failed
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
