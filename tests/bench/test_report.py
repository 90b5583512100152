"""What is kept of measurements, and how it is told."""

import json
from dataclasses import replace
from types import SimpleNamespace

import pytest

from bench import __main__ as command
from bench import plot, report
from bench.outcome import Measurement, Ratio, Sample, Series, Table, ratio

SAMPLE = Sample(1000, 500.0, 40, 90, 300.0, 12.5, 0.5, 0.2, 0.0)
PLANE = Series("device plane", "flat out", (SAMPLE, replace(SAMPLE, requests_per_second=800.0)))
NGINX = Series("nginx", "flat out", (replace(SAMPLE, requests_per_second=1000.0),) * 2)


def measurement(identifier="P1", **members):
    wanted = {
        "series": (PLANE, NGINX),
        "ratios": (ratio("requests per second", PLANE, NGINX, "requests_per_second", "≥ 0.40"),),
        "tables": (Table("", ("size", "MiB"), (("first", "3"), ("last", "40"))),),
        "facts": {"classes": 10, "arms": {"control": 3}},
        "notes": ("one peer was away",),
        "conditions": {"rounds": 2, "taken": "2030-01-01 12:00 UTC"},
    }
    return Measurement(identifier, "polls", **(wanted | members))


def test_all_of_the_design_can_be_asked_for():
    assert list(command.MEASUREMENTS) == [f"P{number}" for number in range(1, 12)]
    assert all(module.TITLE and callable(module.measure) for module in command.MEASUREMENTS.values())


def test_a_ratio_pairs_the_rounds():
    assert ratio("rate", PLANE, NGINX, "requests_per_second", "").rounds == (0.5, 0.8)
    assert ratio("rate", PLANE, NGINX, "requests_per_second", "", times=2).rounds == (1.0, 1.6)


def test_figures_survive_the_file(tmp_path):
    report.write(tmp_path, [measurement()], [])
    assert report.stored(tmp_path) == [measurement()]


def test_a_run_of_one_leaves_the_others_their_figures(tmp_path):
    command._keep(tmp_path, measurement("P10"))
    command._keep(tmp_path, measurement("P2", facts={"run": 1}))
    command._keep(tmp_path, measurement("P2", facts={"run": 2}))
    assert [(each.identifier, each.facts) for each in report.stored(tmp_path)] == [
        ("P2", {"run": 2}),
        ("P10", measurement().facts),
    ]
    page = (tmp_path / "RESULTS.md").read_text()
    assert page.index("## P2") < page.index("## P10") < page.index("## What could not be measured")


def test_files_of_older_runs_are_read(tmp_path):
    old = measurement().to_json()
    for name in ("conditions", "notes", "tables"):
        del old[name]
    document = {"machine": {"cores": 2}, "settings": {"rounds": 3}, "measurements": [old]}
    (tmp_path / "results.json").write_text(json.dumps(document))
    (kept,) = report.stored(tmp_path)
    assert (kept.conditions, kept.series) == ({"cores": 2, "rounds": 3}, (PLANE, NGINX))


def test_the_page_tells_aims_and_what_is_missing(tmp_path):
    taken = [measurement(), measurement("P4", series=(), ratios=(), tables=(), skipped="no wrk", notes=())]
    report.write(tmp_path, taken, ["P6: not measured yet"])
    page = (tmp_path / "RESULTS.md").read_text()
    assert "| P1 | requests per second | device plane | nginx | 0.65 | ≥ 0.40 |" in page
    missing = page[page.index("## What could not be measured") :]
    for line in ("- P4: no wrk", "- P1: one peer was away", "- P6: not measured yet"):
        assert line in missing
    assert "taken 2030-01-01 12:00 UTC" in page


def test_a_measurement_that_fails_is_told_and_leaves_the_others_theirs(tmp_path):
    def broken(_):
        raise ValueError("expected a server, got none")

    modules = [
        SimpleNamespace(IDENTIFIER=name, TITLE="polls", NEEDS_SERVERS=False, measure=measure)
        for name, measure in (("P1", broken), ("P2", lambda _: measurement("P2")))
    ]
    taken = list(command._measure_each(modules, tmp_path, {"rounds": 1, "seconds_per_run": 1}, 0))
    assert [(each.identifier, each.failed) for each in taken] == [
        ("P1", "ValueError: expected a server, got none"),
        ("P2", None),
    ]
    assert taken[1].conditions["rounds"] == 1


def test_the_plot_shows_rates_and_ratios(tmp_path):
    pytest.importorskip("matplotlib")
    ratios = (Ratio("int8 all", "weightdiff-1", "bsdiff", "bytes", "≤ 0.70", (0.5,)),)
    assert plot.draw(tmp_path / "plot.png", [measurement(), measurement("P9", series=(), ratios=ratios)]) is None
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")
    assert plot.draw(tmp_path / "plot.png", []) == "nothing was measured"
