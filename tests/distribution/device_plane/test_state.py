import asyncio
import json
import logging
import shutil
from hashlib import sha256

import pytest

from distribution.device_plane.app import create_app
from distribution.device_plane.state import Applications, DamagedTreeError, load_app
from distribution.device_plane.tree import LocalTree, safe_path
from tests.simulators import NOW, CountingTree, DeviceSimulator, MemorySink, PublishedTree


def revision(applications, name="demo"):
    state = applications.by_name.get(name)
    return state.revision if state else None


@pytest.fixture
def applications(tree):
    applications = Applications(tree)
    applications.refresh()
    return applications


def test_a_tree_is_loaded_whole(applications, published):
    state = applications.by_name["demo"]
    assert state.revision == 1
    channel = state.channels["production"]
    assert channel.catalog == published.catalog("production")
    assert set(channel.manifests) == {reference.path for reference in channel.catalog.references()}
    for reference in channel.catalog.references():
        assert sha256(channel.manifests[reference.path]).hexdigest() == reference.sha256


def test_an_unchanged_timestamp_is_only_looked_at(applications, tree):
    reads = tree.calls["read"]
    for _ in range(5):
        applications.refresh()
    assert tree.calls["read"] == reads
    assert tree.calls["fingerprint"] == 6


def test_a_new_revision_is_taken_up_and_the_unchanged_is_not_read_again(applications, published, tree):
    published.release("faces", 2, {"tflite-float32": {"model.tflite": b"faces 2"}})
    published.publish()
    reads = tree.calls["read"]
    applications.refresh()
    assert revision(applications) == 2
    # timestamp, snapshot, releases, catalog, and the two manifests of the one model that changed
    assert tree.calls["read"] - reads == 6


def test_a_state_in_use_is_not_touched_by_a_refresh(applications, published):
    before = applications.by_name["demo"]
    catalog = before.channels["production"].catalog
    published.release("faces", 2, {"tflite-float32": {"model.tflite": b"faces 2"}})
    published.publish()
    applications.refresh()
    assert before.revision == 1
    assert before.channels["production"].catalog is catalog
    assert applications.by_name["demo"] is not before


def test_new_applications_and_channels_appear(applications, published, tmp_path):
    published.release("digits", 4, {"tflite-float32": {"m": b"4"}}, channel="beta")
    published.publish()
    other = PublishedTree(tmp_path / "tree", application="other")
    other.release("words", 1, {"tflite-float32": {"m": b"w"}})
    other.publish()
    applications.refresh()
    assert set(applications.by_name) == {"demo", "other"}
    assert set(applications.by_name["demo"].channels) == {"production", "beta"}


def test_an_empty_or_absent_tree_is_no_error(tmp_path):
    applications = Applications(LocalTree(tmp_path / "absent"))
    applications.refresh()
    (tmp_path / "absent" / "demo" / "trust").mkdir(parents=True)
    applications.refresh()
    assert (applications.by_name, applications.errors) == ({}, {})


def newest(published, pattern):
    return max(published.folder.glob(pattern), key=lambda path: path.stat().st_mtime_ns)


DAMAGED_FILES = [
    "trust/timestamp.json",
    "trust/2.snapshot.json",
    "trust/2.releases-production.json",
    "targets/catalogs/*.production.json",
    "manifests/production/digits/2.*",
]
DAMAGES = {
    "absent": lambda path: path.unlink(),
    "empty": lambda path: path.write_bytes(b""),
    "half": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "another byte": lambda path: path.write_bytes(path.read_bytes().replace(b"signed", b"sigmed", 1)),
    "longer": lambda path: path.write_bytes(path.read_bytes() + b"]"),
    "not UTF-8": lambda path: path.write_bytes(b"\xff\xfe"),
    "deep": lambda path: path.write_bytes(b"[" * 100_000),
}


@pytest.mark.parametrize("pattern", DAMAGED_FILES)
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_tree_keeps_the_last_good_state_and_says_so(applications, published, caplog, pattern, damage):
    published.release("digits", 4, {"tflite-float32": {"m": b"4"}})
    published.publish()
    path = newest(published, pattern)
    if damage == "another byte" and pattern.startswith("targets"):
        path.write_bytes(path.read_bytes().replace(b"digits", b"digitz", 1))
    else:
        DAMAGES[damage](path)
    applications.refresh()
    assert revision(applications) == 1
    if pattern == "trust/timestamp.json" and damage == "absent":
        return  # an application without a timestamp is not published yet
    assert "application demo" in applications.errors["demo"]
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    assert "the last good state stays in service" in caplog.text


@pytest.mark.parametrize(
    ("pattern", "old", "new"),
    [
        ("trust/2.snapshot.json", b'"version":2', b'"version":3'),
        ("trust/2.releases-production.json", b"digits", b"digitz"),
        ("targets/catalogs/*.production.json", b"digits", b"digitz"),
        ("manifests/production/digits/2.4.*", b"install", b"instill"),
    ],
)
def test_a_file_that_reads_well_but_has_another_hash_is_refused(applications, published, pattern, old, new):
    published.release("digits", 4, {"tflite-float32": {"m": b"4"}})
    published.publish()
    path = newest(published, pattern)
    data = path.read_bytes()
    assert old in data
    path.write_bytes(data.replace(old, new))
    applications.refresh()
    assert revision(applications) == 1
    assert "expected sha256" in applications.errors["demo"]


@pytest.mark.parametrize(("change", "good"), [(0, True), (1, False)])
def test_a_length_counts_without_a_hash(published, change, good):
    """TUF lets a repository leave hashes out of timestamp.json."""
    path = published.folder / "trust" / "timestamp.json"
    document = json.loads(path.read_bytes())
    meta = document["signed"]["meta"]["snapshot.json"]
    del meta["hashes"]
    meta["length"] += change
    path.write_text(json.dumps(document))
    applications = Applications(LocalTree(published.root))
    applications.refresh()
    assert revision(applications) == (1 if good else None)


def test_the_same_error_is_logged_once_and_a_repair_is_noticed(applications, published, caplog):
    published.release("digits", 4, {"tflite-float32": {"m": b"4"}})
    published.publish()
    path = newest(published, "manifests/production/digits/2.4.*")
    kept = path.read_bytes()
    path.unlink()
    for _ in range(25):
        applications.refresh()
    assert len(caplog.records) == 1
    path.write_bytes(kept)
    for _ in range(10):
        applications.refresh()
    assert (revision(applications), applications.errors) == (2, {})


def test_damage_in_one_application_leaves_the_others_alone(applications, published, tmp_path):
    other = PublishedTree(tmp_path / "tree", application="other")
    other.release("words", 1, {"tflite-float32": {"m": b"w"}})
    other.publish()
    (published.folder / "trust" / "timestamp.json").write_bytes(b"{")
    applications.refresh()
    assert (revision(applications), revision(applications, "other")) == (1, 1)
    assert set(applications.errors) == {"demo"}


def test_a_lower_revision_is_refused(applications, published):
    old = (published.folder / "trust" / "timestamp.json").read_bytes()
    published.publish()
    applications.refresh()
    (published.folder / "trust" / "timestamp.json").write_bytes(old)
    applications.refresh()
    assert revision(applications) == 2
    assert "expected version 2 or above, got 1" in applications.errors["demo"]


def test_a_removed_application_stays_in_service(applications, published):
    shutil.rmtree(published.folder)
    applications.refresh()
    assert revision(applications) == 1


def test_a_catalog_of_another_channel_is_refused(published, tmp_path):
    beta = PublishedTree(tmp_path / "elsewhere", application="demo")
    beta.release("digits", 9, {"tflite-float32": {"m": b"9"}}, channel="beta")
    published.catalog = lambda channel: beta.catalog("beta")
    published.publish()
    with pytest.raises(DamagedTreeError, match="expected a catalog of demo/production, got one of demo/beta"):
        load_app(LocalTree(published.root), "demo")


def test_a_manifest_that_is_not_json_is_refused_even_if_its_hash_is_right(published):
    reference = published.models["production", "digits"].versions[3][0].manifest
    data = b'{"signed":{}} trailing'
    (published.folder / reference.path).write_bytes(data)
    broken = type(reference)(reference.path, sha256(data).hexdigest(), len(data))
    variant = published.models["production", "digits"].versions[3][0]
    published.change("digits", versions={3: (type(variant)(variant.name, variant.runtime, broken),)})
    published.publish()
    with pytest.raises(DamagedTreeError, match="Extra data"):
        load_app(LocalTree(published.root), "demo")


def test_health_shows_the_damage(published, tree):
    plane = create_app(tree, MemorySink(), clock=lambda: NOW)
    plane.applications.refresh()
    (published.folder / "trust" / "timestamp.json").write_bytes(b"{")
    plane.applications.refresh()
    health = DeviceSimulator(plane).get("/healthz").document
    assert health["status"] == "degraded"
    assert "application demo" in health["applications"]["demo"]["error"]
    asyncio.run(plane.close())


def test_the_lifespan_loads_before_serving_and_then_watches(published, tree):
    """The watcher is driven by its own short pause; the test waits for the event, not for a time."""
    plane = create_app(tree, MemorySink(), clock=lambda: NOW, refresh_seconds=0.001)

    async def scenario():
        to_app, from_app = asyncio.Queue(), asyncio.Queue()
        server = asyncio.create_task(plane({"type": "lifespan"}, to_app.get, from_app.put))
        await to_app.put({"type": "lifespan.startup"})
        assert await from_app.get() == {"type": "lifespan.startup.complete"}
        assert revision(plane.applications) == 1
        taken_up = asyncio.Event()
        refresh = plane.refresh

        async def refresh_and_tell():
            await refresh()
            if revision(plane.applications) == 2:
                taken_up.set()

        plane.refresh = refresh_and_tell
        published.publish()
        async with asyncio.timeout(120):
            await taken_up.wait()
        await to_app.put({"type": "lifespan.shutdown"})
        assert await from_app.get() == {"type": "lifespan.shutdown.complete"}
        await server

    asyncio.run(scenario())


def test_a_watcher_outlives_an_error_nobody_foresaw(tree, caplog):
    plane = create_app(tree, MemorySink(), clock=lambda: NOW, refresh_seconds=0)

    async def scenario():
        calls, third = [], asyncio.Event()

        async def refresh():
            calls.append(None)
            if len(calls) == 3:
                third.set()
            raise RuntimeError("unforeseen")

        plane.refresh = refresh
        watcher = asyncio.create_task(plane.watch())
        async with asyncio.timeout(120):
            await third.wait()
        watcher.cancel()
        await plane.close()

    asyncio.run(scenario())
    assert "looking at the tree failed" in caplog.text


def test_a_tree_that_cannot_be_listed_is_reported(tmp_path, caplog):
    caplog.set_level(logging.CRITICAL)

    class Broken(CountingTree):
        def applications(self):
            raise PermissionError("no")

    applications = Applications(Broken(tmp_path))
    applications.refresh()
    assert "the tree cannot be listed" in applications.errors["*"]


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/a",
        "a/",
        "a//b",
        "../a",
        "a/../b",
        "./a",
        "a/.",
        ".a",
        "a/.hidden",
        "a\\b",
        "a\0",
        "a\n",
        "é",
        "a/" * 40 + "a",
        "a" * 2000,
    ],
)
def test_unsafe_paths(path, published):
    assert not safe_path(path)
    with pytest.raises(FileNotFoundError):
        LocalTree(published.root).open("demo", path)


def test_safe_paths():
    assert safe_path("trust/1.root.json")
    assert safe_path("targets/models/a/1/v/model.mlpackage/Data/com.apple.CoreML/weights/weight.bin")


def test_catalog_bytes_are_those_the_role_lists(published):
    state = load_app(LocalTree(published.root), "demo")
    releases = json.loads((published.folder / "trust/1.releases-production.json").read_bytes())
    target = releases["signed"]["targets"]["catalogs/production.json"]
    channel = state.channels["production"]
    assert sha256(channel.catalog_bytes).hexdigest() == target["hashes"]["sha256"] == channel.catalog_sha256
