"""What a thief can make phones do, with every online key and the web server in hand, or with the network alone."""

# ruff: noqa: F811, F401 - fixtures of the SDK's tests
from datetime import timedelta

import pytest
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import Metadata, TargetFile, Targets

from tests.sdk.conftest import http as http_of_sdk
from tests.sdk.conftest import new_client, release, runtime, score, server, simulator
from tests.sdk.fake_runtime import SCHEMA, model_file, sanity_file
from tests.sdk.repository_simulator import Release, refused, replayed

pytestmark = pytest.mark.usefixtures("server")


@pytest.fixture(scope="session")
def http(http_of_sdk):
    return http_of_sdk


class Clock:
    def __init__(self, start):
        self.now = start

    def __call__(self):
        return self.now

    def pass_(self, **duration):
        self.now += timedelta(**duration)


@pytest.fixture
def clock(simulator):
    return Clock(simulator.timestamp.expires - timedelta(days=7))


@pytest.fixture
def client(new_client, clock):
    return new_client(clock=clock)


@pytest.fixture
def two_versions(simulator, client, release, clock):
    """Version 2 is at phones, 1 is withdrawn by the publisher's minimum."""
    one, two = release(1), release(2)
    simulator.offer(two)
    simulator.publish()
    assert client.update(["digits"])[0].state == "updated"
    simulator.raise_minimum("digits", 2)
    simulator.publish()
    clock.pass_(days=1)
    client.update(["digits"])
    # From here on the thief holds every online key; the publisher's and the root's are out of his reach.
    simulator.keys["targets"] = simulator.keys["root"] = None
    return one, two


def forged(simulator, version=2, counter=2, factor=66):
    """Files of the thief's own, stored where phones fetch files."""
    files = {"model.json": model_file(factor), "sanity.json": sanity_file(factor)}
    made = Release("digits", version, "numpy-float", files, counter=counter, schema=SCHEMA, sanity="sanity.json")
    for content in files.values():
        simulator.put_blob(content)
    return made


def online_publish(simulator):
    """All that the thief can sign: the channel's index, snapshot, timestamp; targets stay the publisher's."""
    simulator._index()
    simulator.sign_delegated()


def still_two(client, code):
    (outcome,) = client.update(["digits"])
    assert (outcome.state, outcome.version) == ("refused", 2)
    assert outcome.error.code == code
    assert score(client) == 6.0


@pytest.mark.parametrize(
    ("version", "counter", "code"),
    [(2, 2, "file_not_as_published"), (3, 3, "file_not_published"), (2, 99, "file_not_as_published")],
)
def test_no_file_that_the_publisher_did_not_sign(two_versions, simulator, client, version, counter, code):
    simulator.offer(forged(simulator, version, counter))
    online_publish(simulator)
    still_two(client, code)


def test_no_file_that_the_channels_role_lists_itself(two_versions, simulator, client):
    made = forged(simulator, 3, 3)
    simulator.offer(made)
    simulator._index()
    for path, content in made.files.items():
        target = TargetFile.from_data(made.target(path), content, ["sha256"])
        custom = {"model": "digits", "model_version": 3, "variant": "numpy-float", "release_counter": 3}
        target.unrecognized_fields["custom"] = custom | {"minimum_release_counter": 1}
        simulator.delegated.targets[made.target(path)] = target
    simulator.sign_delegated()
    still_two(client, "file_not_published")


def test_no_targets_signed_by_online_keys(two_versions, simulator, client):
    for key in (simulator.keys["online"], simulator.keys["releases"], CryptoSigner.generate_ecdsa()):
        forgery = Metadata(Targets(simulator.targets.version + 1, expires=simulator.targets.expires))
        forgery.sign(key)
        simulator.static[f"trust/{forgery.signed.version}.targets.json"] = forgery.to_bytes()
        simulator.snapshot.meta["targets.json"].version = forgery.signed.version
        simulator.sign_snapshot()
        (outcome,) = client.update(["digits"])
        assert outcome.version == 2
    assert score(client) == 6.0


def test_no_version_below_the_minimum_release_counter(two_versions, simulator, client):
    simulator.offer(two_versions[0])
    online_publish(simulator)
    still_two(client, "release_withdrawn")


def test_no_withdrawn_version_under_another_counter(two_versions, simulator, client):
    simulator.offer(two_versions[0], release_counter=2)
    online_publish(simulator)
    still_two(client, "file_of_another_release")


def test_no_older_targets_in_which_the_minimum_was_lower(two_versions, simulator, client, clock):
    simulator.snapshot.meta["targets.json"].version -= 1
    simulator.offer(two_versions[0])
    online_publish(simulator)
    clock.pass_(days=1)
    still_two(client, "metadata_rolled_back")


def test_an_app_fresh_from_the_shop_refuses_what_was_withdrawn_when_it_was_built(
    two_versions,
    simulator,
    new_client,
    tmp_path,
    clock,
):
    """Older targets are new to it: only the minimum inside the app helps."""
    simulator.snapshot.meta["targets.json"].version -= 1
    simulator.offer(two_versions[0])
    online_publish(simulator)
    fresh = {"store": tmp_path / "fresh", "clock": clock}
    (outcome,) = new_client(**fresh, minimum_release_counters={"digits": 2}).update(["digits"])
    assert (outcome.state, outcome.error.code) == ("refused", "release_withdrawn")
    (outcome,) = new_client(store=tmp_path / "naive", clock=clock).update(["digits"])
    assert outcome.state == "updated", "without it nothing tells old targets from new ones"


# -- the network alone


@pytest.fixture
def installed(simulator, client, release):
    simulator.offer(release(1))
    simulator.publish()
    assert client.update(["digits"])[0].held_back is False
    client.flush_events()


def frozen(simulator, server):
    for path in ("trust/timestamp.json",):
        server.fault(path, replayed(simulator.static[path]))


def test_a_day_of_replayed_answers_is_noticed(installed, simulator, server, client, release, clock):
    frozen(simulator, server)
    server.fault("/manifests", replayed(simulator.poll("production", ["digits"])))
    simulator.offer(release(2))
    simulator.publish()
    clock.pass_(hours=23)
    assert client.update(["digits"])[0].held_back is False
    clock.pass_(hours=1)
    (outcome,) = client.update(["digits"])
    assert (outcome.held_back, outcome.version) == (True, 1)
    assert [event["error"] for event in client.pending_events() if event["outcome"] == "failed"] == ["held_back"]
    client.update(["digits"])
    assert len([event for event in client.pending_events() if event.get("error") == "held_back"]) == 1
    server.heal()
    clock.pass_(days=1)
    (outcome,) = client.update(["digits"])
    assert (outcome.held_back, outcome.state) == (False, "updated")


@pytest.mark.parametrize("part", ["/manifests", "trust/"])
def test_a_day_of_dropped_answers_is_noticed(installed, server, client, clock, part):
    server.fault(part, refused(503))
    clock.pass_(days=1)
    (outcome,) = client.update(["digits"])
    assert (outcome.held_back, outcome.state) == (True, "unavailable")
    assert score(client) == 3.0


def test_a_server_that_is_honest_and_signs_twice_a_day_holds_nobody_back(installed, simulator, client, clock):
    for _ in range(4):
        clock.pass_(hours=12)
        simulator.sign_timestamp()
        assert client.update(["digits"])[0].held_back is False


def test_a_rollback_by_the_network_is_refused(installed, simulator, server, client, clock):
    before = simulator.static["trust/timestamp.json"]
    simulator.publish()
    clock.pass_(days=1)
    client.update(["digits"])
    server.fault("trust/timestamp.json", replayed(before))
    clock.pass_(days=1)
    (outcome,) = client.update(["digits"])
    assert (outcome.state, outcome.error.code, outcome.held_back) == ("refused", "metadata_rolled_back", True)


def test_old_and_new_metadata_do_not_mix(installed, simulator, server, client, clock):
    old = simulator.static[f"trust/{simulator.targets.version}.targets.json"]
    simulator.publish()
    server.fault(f"trust/{simulator.targets.version}.targets.json", replayed(old))
    clock.pass_(days=1)
    (outcome,) = client.update(["digits"])
    assert (outcome.state, outcome.error.code) == ("refused", "metadata_rolled_back")


def test_trickling_metadata_ends(installed, server, client, clock, monkeypatch):
    """Each look at the clock of the transfer is a minute later."""
    ticks = iter(range(0, 100_000, 70))
    monkeypatch.setattr("aerogram_sdk.fetcher.monotonic", lambda: next(ticks))
    monkeypatch.setattr("aerogram_sdk.fetcher.MOST_SECONDS_PER_DOCUMENT", 60)
    clock.pass_(days=1)
    (outcome,) = client.update(["digits"])
    assert (outcome.state, outcome.held_back) == ("unavailable", True)
