"""Every measurement starts, loads real servers for a moment and comes to figures. How good they are is not asked."""

import os
import shutil
from dataclasses import replace

import numpy as np
import pytest

from bench import (
    machine,
    p1_poll,
    p2_not_modified,
    p3_public,
    p4_peers,
    p5_growth,
    p9_patches,
    p10_memory,
    p11_day,
    peers,
)
from bench.environments import NotInstalled
from bench.grown import Size
from bench.harness import Harness, MeasurementError, Patience
from tests.distribution.deltas.model_files import weight_file

PATH = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"
pytestmark = pytest.mark.chaos


@pytest.fixture
def harness(tmp_path):
    """One round of a second. This process stays on the generator's core, as in a run."""
    lacking = [tool for tool in ("taskset", "setpriv", "nginx", "wrk") if shutil.which(tool, path=PATH) is None]
    usable = os.sched_getaffinity(0)
    if lacking or len(usable) < 2:
        pytest.skip(f"{', '.join(lacking) or 'a second core'} missing")
    cores = machine.Cores.choose()
    os.sched_setaffinity(0, {cores.generator})
    yield Harness(tmp_path, cores, rounds=1, seconds=1, patience=Patience(0), say=lambda _: None)
    os.sched_setaffinity(0, usable)


@pytest.mark.parametrize(("module", "servers"), [(p1_poll, 6), (p2_not_modified, 3), (p3_public, 4)])
def test_polls_and_their_references(harness, module, servers):
    taken = module.measure(harness)
    assert (taken.skipped, taken.failed, len(taken.series)) == (None, None, servers)
    assert all(sample.requests > 0 for series in taken.series for sample in series.samples)
    assert all(each.median > 0 for each in taken.ratios)
    assert set(taken.facts.get("the cache at the end", {"HIT"})) == {"HIT"}


def test_growth(harness, monkeypatch):
    monkeypatch.setattr(p5_growth, "DIFFERENT_POLLS", 60)
    monkeypatch.setattr(p5_growth, "DIFFERENT_COLD_POLLS", 200)
    grown = (Size("some experiments", experiments=4),)
    taken = p5_growth.measure(harness, grown, Size("both", models=3, classes=9, experiments=4))
    assert [each.subject for each in taken.ratios] == ["some experiments", "both", "both"]
    assert all(float(resident) > 10 for _, _, resident, _ in taken.tables[0].rows)


def test_peers_that_cannot_be_installed_are_told(harness, monkeypatch):
    def refused(name, _):
        raise NotInstalled(f"{name}: no registry")

    monkeypatch.setattr(peers, "python_environment", refused)
    monkeypatch.setattr(peers, "node_environment", refused)
    taken = p4_peers.measure(harness)
    for name in ("kinto", "mlflow", "unleash"):
        assert f"{name} was not measured: {name}: no registry" in taken.skipped


def test_memory_of_transfers(tmp_path):
    patient = Harness(tmp_path, machine.Cores(0, 0), 1, 1, Patience(0), lambda _: None)
    taken = p10_memory.measure(patient, 3 * p10_memory.MIB + 5)
    assert [row[0] for row in taken.tables[0].rows] == ["upload, control plane", "download, device plane"]


def test_what_is_sent_has_the_length_it_should():
    sent = list(p10_memory.pieces(3 * p10_memory.MIB + 5))
    assert (sum(map(len, sent)), len(set(sent))) == (3 * p10_memory.MIB + 5, 4)


def test_growth_of_memory_is_seen():
    before = p10_memory._resident_from_now_on(os.getpid())
    block = np.ones(60 * p10_memory.MIB, np.uint8)
    assert p10_memory._status_bytes(os.getpid(), "VmHWM") - before > 50 * p10_memory.MIB, block[0]


def test_updates_beside_other_encoders(tmp_path, monkeypatch):
    if shutil.which("zstd") is None or p9_patches._missing():
        pytest.skip("zstd or TensorFlow is missing")
    weights = np.random.default_rng(1).integers(0, 2**16, 40_000, dtype=np.uint16)
    for name, values in (("base", weights), ("all", weights + np.uint16(3))):
        (tmp_path / "int8").mkdir(exist_ok=True)
        (tmp_path / "int8" / name).write_bytes(weight_file([values]))
    monkeypatch.setattr(p9_patches, "_pairs", lambda _: tmp_path)
    monkeypatch.setattr(p9_patches, "python_environment", lambda *_: tmp_path / "python")
    monkeypatch.setattr(p9_patches._Pair, "bsdiff", lambda _: 70_000)
    patient = Harness(tmp_path, machine.Cores(0, 0), 1, 1, Patience(0), lambda _: None)
    taken = p9_patches.measure(patient, {"int8": ("all",)})
    assert [each.name for each in taken.ratios] == ["int8 all", "slowest decode", "decoder's memory"]
    assert taken.ratios[0].median < 0.1


def test_bsdiff_that_cannot_be_installed_is_told(tmp_path, monkeypatch):
    def refused(name, _):
        raise NotInstalled(f"{name}: no registry")

    monkeypatch.setattr(p9_patches, "_missing", lambda: None)
    monkeypatch.setattr(p9_patches, "python_environment", refused)
    patient = Harness(tmp_path, machine.Cores(0, 0), 1, 1, Patience(0), lambda _: None)
    assert replace(p9_patches.measure(patient)).skipped == "bsdiff: bsdiff4: no registry"


def test_a_day_of_devices(harness):
    taken = p11_day.measure(harness, devices=60)
    assert (taken.skipped, taken.failed, taken.facts["errors"]) == (None, None, 0)
    assert taken.facts["answers 200"] == "180", "first poll, the new version and its file"


def test_a_day_with_another_version_than_was_published_fails(harness, monkeypatch):
    monkeypatch.setattr(p11_day.Day, "_publish", lambda day: None)
    with pytest.raises(MeasurementError, match="expected version 4, got 304 and 3"):
        p11_day.measure(harness, devices=10)
