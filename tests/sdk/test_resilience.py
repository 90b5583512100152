"""Broken connections, killed processes, several processes, no network, wrong clocks, models that fail later."""

import json
import os
import signal
import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from aerogram_sdk import DeviceProfile, EmbeddedModel, SignatureSchema, TensorSpec, errors
from securesystemslib.signer import CryptoSigner
from tuf.ngclient import Updater

from tests.sdk.conftest import score, staged
from tests.sdk.fake_runtime import IMAGE, FakeRuntime, model_file
from tests.sdk.repository_simulator import Release, dropped, in_turn, refused, replayed, stalled, stamp

OTHER_SCHEMA = SignatureSchema((TensorSpec("sound", (1, 16000), "float32"),), ())
REPOSITORY = Path(__file__).parents[2]
PATIENCE_SECONDS = 120.0  # processes start slowly on a busy machine


@pytest.fixture
def second(installed, simulator, release) -> Release:
    second = release(2, padding=200_000)
    simulator.offer(second)
    simulator.publish()
    return second


@pytest.fixture
def blob(second, simulator) -> str:
    return f"blobs/sha256/{simulator.put_blob(second.files['model.json'])}"


@pytest.fixture
def start_device(server, simulator, tmp_path):
    """Start a device process on the same store; killed at the end if it still runs."""
    processes = []

    def start(**given):
        document = {"server": server.url, "root": simulator.root_bytes().decode(), "store": str(tmp_path / "store")}
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.sdk.device_process", json.dumps(document | given)],
            cwd=REPOSITORY,
            stdout=subprocess.PIPE,
            text=True,
        )
        processes.append(process)
        assert process.stdout.readline() == "started\n"
        return process

    yield start
    for process in processes:
        process.kill()
        process.wait()
        process.stdout.close()


# -- downloads


def ranges(server, blob):
    return [(request.headers.get("range"), request.headers.get("if-range")) for request in server.asked(blob)]


def test_broken_download_resumes_by_range_at_once(client, server, second, blob):
    server.fault(blob, dropped(70_000), times=1)
    assert client.update(["digits"])[0].state == "updated"
    tag = f'"{blob.rpartition("/")[2]}"'
    assert ranges(server, blob) == [(None, None), ("bytes=70000-", tag)]
    assert score(client) == 6.0


@pytest.fixture
def half_arrived(client, server, second, blob) -> None:
    """The connection broke after 70 000 bytes, and then the server was away."""
    server.fault(blob, in_turn(dropped(70_000), refused(503)))
    assert client.update(["digits"])[0].state == "unavailable"
    server.heal()
    server.requests.clear()


def test_broken_download_resumes_in_the_next_process(new_client, server, blob, half_arrived):
    assert new_client().update(["digits"])[0].state == "updated"
    assert ranges(server, blob) == [("bytes=70000-", f'"{blob.rpartition("/")[2]}"')]


def test_changed_entity_starts_afresh(client, server, blob, half_arrived, tmp_path):
    (tag,) = (tmp_path / "store").rglob("*.etag")
    tag.write_text('"another"')
    assert client.update(["digits"])[0].state == "updated"
    assert ranges(server, blob) == [("bytes=70000-", '"another"')]


def test_part_without_a_tag_is_not_continued(client, server, blob, half_arrived, tmp_path):
    next((tmp_path / "store").rglob("*.etag")).unlink()
    assert client.update(["digits"])[0].state == "updated"
    assert ranges(server, blob) == [(None, None)]


def test_server_gone_before_the_rest(client, server, blob, half_arrived):
    server.fault(blob, dropped(0))
    assert type(client.update(["digits"])[0].error) is errors.DownloadUnavailable
    server.heal()
    assert client.update(["digits"])[0].state == "updated"


def test_files_may_be_elsewhere_and_learn_nothing_of_the_device(client, server, second, blob):
    """As on S3: a redirect to another host."""
    server.simulator.static["elsewhere"] = second.files["model.json"]
    target = server.url.replace("127.0.0.1", "localhost") + "/v1/apps/demo/elsewhere"
    server.fault(blob, refused(302, Location=target))
    assert client.update(["digits"])[0].state == "updated"
    (request,) = server.asked("elsewhere")
    assert not [name for name in request.headers if name.startswith("aerogram")]


def test_empty_file(client, simulator, installed, release):
    second = release(2)
    second.files["empty.txt"] = b""
    simulator.offer(simulator.release(second))
    simulator.publish()
    assert client.update(["digits"])[0].state == "updated"
    assert score(client) == 6.0


def test_part_longer_than_the_file_is_not_continued(client, server, blob, half_arrived, tmp_path):
    next((tmp_path / "store").rglob("*.part")).write_bytes(b"x" * 300_000)
    assert client.update(["digits"])[0].state == "updated"


def test_files_already_here_are_not_fetched_again(client, server, simulator, installed, release):
    same_vectors = release(2, model=installed.files["model.json"] + b" ", sanity_factor=1)
    simulator.offer(same_vectors)
    simulator.publish()
    assert client.update(["digits"])[0].state == "updated"
    assert len(server.asked("/blobs/")) == 1


# -- races between a publication and a poll


def test_stale_poll_answer_is_asked_once_more(new_client, server, simulator, installed, tmp_path):
    stale = simulator.poll("production", ["digits"])
    simulator.offer(installed)
    simulator.publish()
    server.fault("/manifests", replayed(stale), times=1)
    (outcome,) = new_client(store=tmp_path / "another device").update(["digits"])
    assert (outcome.state, outcome.version) == ("updated", 1)
    assert server.asked("/manifests")[1].headers["cache-control"] == "no-cache"


def test_poll_ahead_of_a_cached_timestamp(client, server, simulator, installed, release):
    old = simulator.static["trust/timestamp.json"]
    simulator.offer(release(2))
    simulator.publish()
    server.fault("trust/timestamp.json", replayed(old), times=1)
    assert client.update(["digits"])[0].state == "updated"
    assert len(server.asked("trust/timestamp.json")) == 2
    assert [outcome for _, outcome in staged(client)].count("failed") == 0


# -- killed processes


@pytest.mark.chaos
def test_kill_in_the_middle_of_a_download(client, server, second, blob, start_device):
    reached = threading.Event()
    released = threading.Event()
    stall = stalled(70_000, released)

    def change(answer):
        reached.set()
        return stall(answer)

    server.fault(blob, change, times=1)
    process = start_device()
    assert reached.wait(PATIENCE_SECONDS)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    released.set()
    assert score(client) == 3.0
    assert client.update(["digits"])[0].state == "updated"
    assert score(client) == 6.0


@pytest.mark.chaos
@pytest.mark.parametrize("moment", ["loading", "moving the bundle", "at the switch"])
def test_kill_in_the_middle_of_an_install(client, second, start_device, moment):
    process = start_device(die=moment)
    assert process.wait() == -signal.SIGKILL
    assert score(client) == 3.0
    assert client.update(["digits"])[0].state == "updated"
    assert score(client) == 6.0


@pytest.mark.chaos
def test_model_that_kills_the_process_is_banned_after_three_deaths(client, second, start_device):
    for _ in range(3):
        assert start_device(die="loading").wait() == -signal.SIGKILL
    (outcome,) = client.update(["digits"])
    assert type(outcome.error) is errors.BannedOnDevice
    crashes = [event for event in client.pending_events() if event.get("error") == "load_crashed"]
    assert [(event["stage"], event["version"]) for event in crashes] == [("compile", 2)] * 3
    assert score(client) == 3.0


def waits_for_a_lock(pid):
    blocked = [line.split() for line in Path("/proc/locks").read_text().splitlines() if "->" in line]
    return str(pid) in [words[5] for words in blocked]


@pytest.mark.chaos
@pytest.mark.skipif(not Path("/proc/locks").exists(), reason="tells a waiting process by /proc/locks")
def test_two_processes_on_one_store(client, server, second, blob, start_device):
    reached, released = threading.Event(), threading.Event()

    def pause(answer):
        reached.set()
        released.wait(PATIENCE_SECONDS)
        return answer

    server.fault(blob, pause, times=1)
    first = start_device()
    assert reached.wait(PATIENCE_SECONDS)
    other = start_device()
    assert score(client) == 3.0, "a running update does not keep others from running the model"
    while not waits_for_a_lock(other.pid):
        assert other.poll() is None, "it did not wait"
    released.set()
    assert [process.communicate()[0] for process in (first, other)] == ["updated\n", "unchanged\n"]
    assert len(server.asked(blob)) == 1
    assert score(client) == 6.0


# -- no network


def test_offline_start(new_client, installed, server):
    offline = new_client(server="http://127.0.0.1:9")
    assert score(offline) == 3.0
    (outcome,) = offline.update(["digits"])
    assert (outcome.state, type(outcome.error), outcome.version) == ("unavailable", errors.PollFailed, 1)
    assert score(offline) == 3.0


def test_store_may_move(new_client, installed, tmp_path):
    (tmp_path / "store").rename(tmp_path / "moved")
    assert score(new_client(store=tmp_path / "moved")) == 3.0
    assert str(tmp_path) not in next((tmp_path / "moved").rglob("state.json")).read_text()


# -- rollback, kill switch, retention


def test_rollback_to_an_older_version_is_accepted_and_fetches_nothing(client, server, simulator, installed, second):
    assert client.update(["digits"])[0].state == "updated"
    assert score(client) == 6.0
    server.requests.clear()
    simulator.offer(installed)
    simulator.publish()
    (outcome,) = client.update(["digits"])
    assert (outcome.state, outcome.version) == ("updated", 1)
    assert server.asked("/blobs/") == []
    assert score(client) == 3.0


def test_kill_switch_and_back(new_client, server, simulator, installed, tmp_path):
    (tmp_path / "embedded.json").write_bytes(model_file(10))
    embedded = {"digits": EmbeddedModel(tmp_path / "embedded.json", "numpy", version=1)}
    client = new_client(embedded=embedded)
    simulator.offer_embedded("digits")
    simulator.publish()
    (outcome,) = client.update(["digits"])
    assert (outcome.state, outcome.reason, outcome.version) == ("use_embedded", "kill_switch", None)
    assert client.update(["digits"])[0].state == "unchanged"
    assert score(client) == 30.0
    simulator.offer(installed)
    simulator.publish()
    assert client.update(["digits"])[0].state == "updated"
    assert server.asked("/blobs/") == []
    assert score(client) == 3.0


def test_kill_switch_without_an_embedded_model(client, simulator, installed):
    simulator.offer_embedded("digits")
    simulator.publish()
    assert client.update(["digits"])[0].state == "use_embedded"
    with pytest.raises(errors.ModelNotAvailable):
        client.open("digits")


def test_kill_switch_must_be_signed(client, simulator, installed):
    entry = simulator.offer_embedded("digits")
    simulator.publish()
    entry["manifest"]["signed"]["version"] += 1
    assert type(client.update(["digits"])[0].error) is errors.ManifestUnsigned
    assert score(client) == 3.0


def versions_kept(simulator, client, release, last, **members):
    """Install versions 2 to `last`, run each, and say which bundles are left on disk."""
    for version in range(2, last + 1):
        simulator.offer(release(version, members=members))
        simulator.publish()
        assert client.update(["digits"])[0].state == "updated"
        assert score(client) == 3.0 * version
    client.update(["digits"])


def bundles(tmp_path):
    manifests = (tmp_path / "store").rglob("bundles/*/manifest.json")
    return sorted(json.loads(path.read_text())["model_version"] for path in manifests)


def test_one_previous_bundle_is_kept(simulator, client, installed, release, tmp_path):
    versions_kept(simulator, client, release, 4)
    assert bundles(tmp_path) == [3, 4]


def test_bundle_that_never_ran_does_not_displace_one_that_did(simulator, client, installed, release, tmp_path):
    for version in (2, 3):
        simulator.offer(release(version))
        simulator.publish()
        assert client.update(["digits"])[0].state == "updated"
    assert bundles(tmp_path) == [1, 3]


def test_previous_goes_when_the_new_one_has_run_and_policy_says_so(simulator, client, installed, release, tmp_path):
    simulator.offer(release(2), policy={"keep_previous": False})
    simulator.publish()
    client.update(["digits"])
    assert bundles(tmp_path) == [1, 2]
    assert score(client) == 6.0
    assert bundles(tmp_path) == [2]


def test_open_model_stays_what_it_is_during_a_switch(client, second):
    with client.open("digits") as model:
        assert client.update(["digits"])[0].state == "updated"
        assert model.run({"image": IMAGE})["score"][0, 0] == 3.0
    assert score(client) == 6.0


# -- models that fail later


def test_damaged_bundle_falls_back_and_is_fetched_anew(new_client, server, second, tmp_path):
    client = new_client()
    client.update(["digits"])
    damaged = next(
        path for path in (tmp_path / "store").rglob("bundles/*/files/model.json") if path.stat().st_size > 9999
    )
    content = bytearray(damaged.read_bytes())
    content[-1] ^= 1
    damaged.write_bytes(content)
    assert score(client) == 3.0
    assert ("fallback", "ok") in staged(client)
    (outcome,) = client.update(["digits"])
    assert (outcome.state, outcome.version) == ("updated", 2)
    assert score(client) == 6.0


def test_model_that_no_longer_loads_falls_back_then_is_banned(client, runtime, second):
    client.update(["digits"])
    runtime.broken.add(2)
    for _ in range(3):
        assert score(client) == 3.0
    assert ("rollback", "ok") in staged(client)
    assert [event["error"] for event in client.pending_events() if event["outcome"] == "failed"] == ["load_failed"] * 3
    (outcome,) = client.update(["digits"])
    assert (outcome.state, type(outcome.error), outcome.version) == ("refused", errors.BannedOnDevice, 1)


def test_failures_are_forgotten_when_it_runs(client, runtime, second):
    client.update(["digits"])
    for _ in range(2):
        runtime.broken.add(2)
        assert [score(client), score(client)] == [3.0, 3.0]
        runtime.broken.clear()
        assert score(client) == 6.0


def test_model_that_fails_at_its_first_inference(client, runtime, second):
    client.update(["digits"])
    runtime.mute.add(2)
    for _ in range(3):
        with client.open("digits") as model, pytest.raises(errors.FirstInferenceFailed):
            model.run({"image": IMAGE})
    assert score(client) == 3.0


def test_proven_model_is_not_banned_for_one_bad_input(client, runtime, installed):
    runtime.mute.add(1)
    for _ in range(4):
        with client.open("digits") as model, pytest.raises(errors.InferenceFailed):
            model.run({"image": IMAGE})
    runtime.mute.clear()
    assert score(client) == 3.0


def test_wrong_input_is_the_callers_fault(client, installed):
    with client.open("digits") as model, pytest.raises(errors.InputInvalid):
        model.run({"picture": IMAGE})
    assert "failed" not in [outcome for _, outcome in staged(client)]


def test_banned_after_three_failures_until_the_app_changes(client, new_client, server, runtime, second):
    runtime.broken.add(2)
    codes = [client.update(["digits"])[0].error.code for _ in range(4)]
    assert codes == ["load_failed", "load_failed", "load_failed", "banned_on_device"]
    assert len(server.asked("/blobs/")) == 2, "what arrived is kept for the next try"
    newer_app = new_client(profile=DeviceProfile(os="linux", app_version="1.1"), runtimes={"numpy": FakeRuntime()})
    assert newer_app.update(["digits"])[0].state == "updated"


def test_embedded_model_is_the_last_resort(new_client, runtime, installed, tmp_path):
    (tmp_path / "embedded.json").write_bytes(model_file(10))
    client = new_client(embedded={"digits": EmbeddedModel(tmp_path / "embedded.json", "numpy")})
    runtime.broken.add(1)
    with client.open("digits") as model:
        assert (model.source, model.version) == ("embedded", None)


@pytest.mark.parametrize("change", [{"accepts": {"digits": OTHER_SCHEMA}}, {"runtimes": {}}], ids=["schema", "runtime"])
def test_app_replaced_by_one_that_cannot_use_the_installed_model(client, new_client, installed, change):
    """The bundle stays, for the app may be rolled back as well."""
    newer_app = new_client(profile=DeviceProfile(os="linux", app_version="2.0"), **change)
    for _ in range(4):
        with pytest.raises(errors.ModelNotAvailable):
            newer_app.open("digits")
    (outcome,) = newer_app.update(["digits"])
    assert (outcome.state, outcome.error.stage) == ("refused", "offered")
    assert score(client) == 3.0


def test_nothing_to_open(client):
    with pytest.raises(errors.ModelNotAvailable):
        client.open("digits")


# -- time


class Clock:
    def __init__(self) -> None:
        self.now = datetime.now(UTC).replace(microsecond=0)

    def __call__(self) -> datetime:
        return self.now


def test_clock_set_back_does_not_revive_a_manifest(new_client, simulator, installed, release):
    clock = Clock()
    client = new_client(clock=clock)
    second = release(2)
    simulator.offer(second, expires=stamp(clock.now + timedelta(hours=1)))
    simulator.publish()
    clock.now += timedelta(hours=2)
    assert client.update(["digits"])[0].error.code == "manifest_expired"
    clock.now -= timedelta(days=400)
    assert client.update(["digits"])[0].error.code == "manifest_expired"
    assert score(client) == 3.0


def test_clock_set_back_does_not_revive_trust_metadata(new_client, simulator, installed, release):
    clock = Clock()
    client = new_client(clock=clock)
    clock.now += timedelta(hours=30)
    assert client.update(["digits"])[0].state == "unchanged"
    clock.now -= timedelta(hours=30)
    simulator.offer(release(2))
    simulator.timestamp.expires = clock.now + timedelta(hours=1)
    simulator.publish()
    assert client.update(["digits"])[0].error.code == "metadata_expired"


def test_clock_far_behind_still_updates(new_client, second):
    behind = new_client(clock=lambda: datetime(1970, 1, 1, tzinfo=UTC))
    assert behind.update(["digits"])[0].state == "updated"
    assert score(behind) == 6.0


def test_trust_is_refreshed_at_least_daily(new_client, server, installed):
    clock = Clock()
    client = new_client(clock=clock)
    client.update(["digits"])
    server.requests.clear()
    clock.now += timedelta(hours=23)
    assert client.update(["digits"])[0].state == "unchanged"
    assert server.asked("/trust/") == []
    clock.now += timedelta(hours=2)
    assert client.update(["digits"])[0].state == "unchanged"
    assert len(server.asked("trust/timestamp.json")) == 1


def test_expired_trust_stops_nothing_that_runs(new_client, simulator, installed):
    clock = Clock()
    client = new_client(clock=clock)
    clock.now += timedelta(days=30)
    assert client.update(["digits"])[0].error.code == "metadata_expired"
    assert score(client) == 3.0


# -- keys and stock clients


def test_root_and_release_keys_may_be_rotated(client, simulator, installed, release):
    old, new = simulator.keys["root"], CryptoSigner.generate_ecdsa()
    simulator.root.revoke_key(old.public_key.keyid, "root")
    simulator.root.add_key(new.public_key, "root")
    simulator.root.version += 1
    simulator.keys["root"], simulator.cosigners["root"] = new, [old]
    simulator.sign_root()
    simulator.targets.revoke_key(simulator.keys["releases"].public_key.keyid, simulator.role)
    simulator.keys["releases"] = CryptoSigner.generate_ecdsa()
    simulator.targets.add_key(simulator.keys["releases"].public_key, simulator.role)
    simulator.offer(release(2))
    simulator.publish()
    assert client.update(["digits"])[0].state == "updated"


def test_stock_tuf_client(simulator, server, second, tmp_path):
    base = f"{server.url}/v1/apps/demo"
    updater = Updater(
        str(tmp_path), f"{base}/trust/", str(tmp_path), f"{base}/targets/", bootstrap=simulator.root_bytes()
    )
    info = updater.get_targetinfo(second.target("model.json"))
    assert Path(updater.download_target(info)).read_bytes() == second.files["model.json"]
    catalog = updater.get_targetinfo("catalogs/production.json")
    assert catalog.custom == {"manifest_versions": {"digits": 2}}
    assert b"aerogram-catalog" in Path(updater.download_target(catalog)).read_bytes()
    assert updater.get_targetinfo("models/digits/9/numpy-float/model.json") is None


def test_bundle_that_is_a_folder(client, simulator):
    files = {"net/model.json": model_file(7), "net/data/weights.bin": b"w" * 100, "labels.txt": b"zero\none\n"}
    schema = {"inputs": [], "outputs": [], "labels_file": "labels.txt"}
    folder = simulator.release(Release("digits", 7, "numpy-folder", files, entry="net", schema=schema))
    simulator.offer(folder)
    simulator.publish()
    assert client.update(["digits"])[0].state == "updated"
    with client.open("digits") as model:
        assert model.labels() == ["zero", "one"]
        assert model.run({"image": IMAGE})["score"][0, 0] == 21.0


def test_unreadable_state_is_set_aside(client, new_client, installed, tmp_path):
    next((tmp_path / "store").rglob("state.json")).write_text("{")
    with pytest.raises(errors.ModelNotAvailable):
        client.open("digits")
    assert new_client().update(["digits"])[0].state == "updated"
    assert score(client) == 3.0
