"""A worker that dies at every boundary of its work, one after the other: before and after each call that could matter.

The processes of `test_conversions` are killed where a test can see them; here is every other moment, without processes.
What is counted is what a clean run does, so a new step of a job is enumerated as soon as there is one.
"""

import functools
from itertools import count

import pytest

from registry import services
from registry.blob_store import BlobStore
from registry.conversion import runner as runner_module
from registry.conversion.supervision import Progress
from registry.models import ConversionJob, Variant, VariantFile
from registry.services import workspaces
from registry.services.conversions import queueing, running
from tests import factories
from tests.factories import Clock
from tests.registry.fake_conversions import FOUND, FakeRunner, Queue, register, states

pytestmark = [pytest.mark.chaos, pytest.mark.django_db(transaction=True)]
RECIPE = "tflite-float32"
STEPS = [Progress("tracing", 10), Progress("optimise", 0), Progress("calibrating", 30), Progress("verify", 60)]
CALLS = [
    (ConversionJob, "claim"),
    (ConversionJob, "beat"),
    (ConversionJob, "finish"),
    (BlobStore, "copy_to"),
    (BlobStore, "stage"),
    (BlobStore, "keep"),
    (runner_module, "run_trace"),
    (runner_module, "run_recipe"),
    (workspaces, "workspace"),
    (running, "settle_followers"),
    (queueing, "send_on_commit"),
    (Variant.objects, "create"),
    (VariantFile.objects, "bulk_create"),
]


class Killed(BaseException):
    """The worker is no more. Nothing in the code may catch it."""


class Interruptions:
    """Raises `Killed` at the n-th boundary, counted from zero."""

    def __init__(self, monkeypatch):
        self.passed, self.at, self.where = 0, None, ""
        for owner, name in CALLS:
            monkeypatch.setattr(owner, name, self._wrapped(getattr(owner, name), name))

    def arm(self, at):
        self.passed, self.at, self.where = 0, at, ""

    def _wrapped(self, function, name):
        @functools.wraps(function)
        def interrupted(*args, **kwargs):
            self._pass(f"before {name}")
            result = function(*args, **kwargs)
            self._pass(f"after {name}")
            return result

        return interrupted

    def _pass(self, where):
        self.passed += 1
        if self.at is not None and self.passed > self.at:
            self.at, self.where = None, where
            raise Killed(where)


@pytest.fixture
def app(services, own_store, monkeypatch):
    from registry import inspection

    monkeypatch.setattr(inspection, "inspect_source", lambda _path, _name: FOUND)
    return factories.application()


def work(queue, clock, *, redelivered):
    """Take messages until the worker is killed or none is left; a message that was not acknowledged comes again."""
    while queue.sent:
        message = queue.sent[0]
        try:
            queue.run_one(clock)
        except Killed:
            if redelivered:
                queue.sent.append(message)
            return


@pytest.mark.parametrize("redelivered", [True, False])
def test_a_worker_killed_at_any_boundary_leaves_nothing_undone(app, monkeypatch, settings, redelivered, figures):
    queue, fake, clock = Queue(monkeypatch), FakeRunner(monkeypatch), Clock()
    fake.during = lambda _step, heartbeat: [heartbeat(progress) for progress in STEPS]
    interruptions = Interruptions(monkeypatch)
    places = []
    for number in count():
        version = register(app, content=b"PK %d" % number, recipes=[RECIPE])
        interruptions.arm(number)
        work(queue, clock, redelivered=redelivered)
        killed_at = interruptions.where
        places += [killed_at] if killed_at else []
        interruptions.arm(None)
        for _ in range(3):  # a sweep gives a lost job back, the next one finds what a lost message left
            services.sweep_lost_jobs(now=clock.advance(seconds=61))
            queue.drain(clock)
        assert set(states(version).values()) == {"succeeded"}, killed_at
        variant = version.variants.get()
        assert variant.report["state"] == "succeeded", killed_at
        assert variant.files.count() == 1, killed_at
        assert not list(settings.AEROGRAM_WORKSPACE_DIR.iterdir()), killed_at
        if not killed_at:
            break
    assert {name for _, name in CALLS} == {place.split()[1] for place in places}
    figures(f"{len(places)} boundaries")
