"""Simulated devices: what they are, what they report of an answer, and what the pure core makes of a fleet of them."""

import json
import re
import threading
from collections import Counter
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from deploy.cli import main
from deploy.fleet.chances import Drawn, Even
from deploy.fleet.core import Rollout, Step, require_rising
from deploy.fleet.devices import Device, fleet_of, forged_refusal
from deploy.fleet.driver import Driver
from deploy.fleet.outcomes import Outcome, cells_of
from deploy.fleet.population import EVERY, FLAKY, KINDS, App, Faults, Kind, kinds_of
from distribution.device_plane.events import check_event, read_batch
from distribution.device_plane.query import parse_query
from experiments.funnel import RANK

STAMP = {"id": "8c7e0000-0000-4000-8000-000000000000", "at": "2030-01-01T00:00:00Z"}
LOW = KINDS[2]


def device(faults=None, chances=None, kind=LOW, usual=None, **members):
    app = App("digits", 1, {2: faults or Faults()}, usual or Faults(), **members)
    return Device("u1", kind, [app], chances or Even())


def decision(version=2, reason="rollout_treatment", phase=1, arm="treatment"):
    return {"reason": reason, "experiment": "x", "phase": phase, "arm": arm, "version": version, "variant": "v"}


def visit(one, told=None):
    return one.take({"digits": {"decision": told or decision(), "manifest": {}}})


def stages(events):
    return [f"{event['stage']}!" if event["outcome"] == "failed" else event["stage"] for event in events]


WHOLE = ["assigned", "offered", "download", "verify", "unpack", "compile", "sanity", "activate", "first_inference",
         "inference"]  # fmt: skip


# -- chances


@given(st.floats(0, 1), st.integers(1, 500))
def test_even_faults_meet_their_share_to_within_one(share, number):
    chances = Even()
    struck = sum(chances.strikes(share, f"u{index}", "crash") for index in range(number))
    assert abs(struck - share * number) <= 1


def test_drawn_faults_follow_from_unit_and_seed_alone():
    units = [f"u{index}" for index in range(4000)]
    struck = [Drawn(7).strikes(0.1, unit, "crash", 2) for unit in units]
    assert struck == [Drawn(7).strikes(0.1, unit, "crash", 2) for unit in units]
    assert struck != [Drawn(8).strikes(0.1, unit, "crash", 2) for unit in units]
    assert 320 < sum(struck) < 480


# -- what there is


def test_a_fleet_is_mixed_and_its_shares_are_exact():
    kinds = kinds_of(2000)
    assert Counter(kind.name for kind in kinds) == {"high": 700, "mid": 800, "low": 500}
    assert 80 < sum(kind.name == "low" for kind in kinds[:500]) < 170
    with pytest.raises(ValueError, match="expected devices of some kind, got 0"):
        kinds_of(0)


def test_the_same_seed_gives_the_same_devices():
    app = App("digits", 1)
    first, again, other = (fleet_of(50, [app], Even(), seed=seed) for seed in (1, 1, 2))
    assert [(each.unit, each.query) for each in first] == [(each.unit, each.query) for each in again]
    assert not {each.unit for each in first} & {each.unit for each in other}


def test_devices_sleep_at_night_and_are_away_some_days():
    one = device()
    hours = [[one.is_reachable(day, hour) for hour in range(24)] for day in range(400)]
    awake = [sum(day) for day in hours]
    assert set(awake) == {0, 24 - LOW.hours_asleep}
    assert 0.10 < awake.count(0) / 400 < 0.20


def test_what_devices_say_is_what_the_device_plane_takes():
    for one in fleet_of(40, [App("digits", 1), App("faces")], Drawn(1)):
        query = parse_query(one.query.encode())
        assert query.models == ("digits", "faces")
        assert query.current == {"digits": 1}
        faulty = device(Faults({EVERY: 1}, {EVERY: 0.5}, forged={EVERY: 0.5}), Drawn(int(one.unit[-3:])))
        events = [STAMP | event for event in visit(faulty) + forged_refusal("digits", 2)]
        for event in events:
            check_event(event, datetime(2030, 1, 1, tzinfo=UTC))
        batch = {"sent_at": STAMP["at"], "profile": one.profile, "channel": "production", "events": events}
        assert read_batch(json.dumps(batch).encode(), "").rejected == []


# -- what a device does


def test_a_new_version_is_installed_and_reported_stage_by_stage():
    one = device()
    assert stages(visit(one)) == WHOLE
    assert one.held["digits"].version == 2
    assert "current=digits%3A2" in one.query
    assert visit(one) == [], "the same decision is old news"
    assert stages(visit(one, decision(phase=2))) == ["assigned", "inference"]


def test_a_control_reports_that_it_is_one():
    events = visit(device(), decision(1, "rollout_control", arm="control"))
    assert [(event["stage"], event["version"]) for event in events] == [("assigned", 1), ("inference", 1)]
    assert sum(events[1]["histogram"]) == 40


@pytest.mark.parametrize(
    ("fault", "expected", "version"),
    [
        ("crash", [*WHOLE[:-1], "compile!", "inference"], 2),
        (
            "compile_failure",
            ["assigned", "offered", "download", "verify", "unpack", "compile!", "fallback", "inference"],
            1,
        ),
        ("download_loss", ["assigned", "offered"], 1),
        ("forged", ["assigned", "offered", "download", "verify!", "inference"], 1),
        ("slow", WHOLE, 2),
    ],
)
def test_planted_faults(fault, expected, version):
    one = device(Faults(**{fault: {"low": 1.0}}))
    assert stages(visit(one)) == expected
    assert one.held["digits"].version == version
    other = device(Faults(**{fault: {"low": 1.0, EVERY: 0.0}}), kind=KINDS[0])
    assert stages(visit(other)) == WHOLE, "of another kind"


def test_who_was_lost_is_not_heard_of_again():
    one = device(Faults(download_loss={EVERY: 1.0}))
    visit(one)
    assert visit(one, decision(phase=2)) == []


def test_a_silent_app_runs_what_it_gets_and_tells_nothing():
    one = device(is_silent=True)
    assert visit(one) == []
    assert one.held["digits"].version == 2


def test_a_slow_version_is_slower_on_the_share_it_strikes():
    usual, slow = device(), device(Faults(slow={EVERY: 1.0}))
    app = slow.apps[0]
    assert slow.p95_ms(app, 2) == pytest.approx(4 * usual.p95_ms(app, 1))
    tail = len(slow.histogram(app, 2)) - len(usual.histogram(usual.apps[0], 2))
    assert tail == 6, "three bins a doubling"


def test_a_download_that_broke_off_is_resumed():
    broken = [Device(f"u{n}", Kind("k", 1, LOW.profile, 9.0, networks=[FLAKY]), [App("digits", 1)], Even())
              for n in range(200)]  # fmt: skip
    seen = Counter(tuple(stages(visit(each))[2:4]) for each in broken)
    assert set(seen) == {("download", "verify"), ("download!", "download")}
    assert 25 < seen["download!", "download"] < 80


# -- outcomes


def test_outcomes_are_counted_as_the_ingester_counts():
    one = Outcome("treatment", "low")
    for event in visit(device(Faults(crash={EVERY: 1.0}))):
        one.take(event, 2, 3.0)
    assert (one.assigned, one.crashed, one.load_failed, one.reached) == (True, True, False, RANK["first_inference"])
    cell = cells_of([one], 4.0, slo_ms=100)["treatment", "low"]
    assert (cell.units, cell.crashed, sum(cell.failed), sum(cell.lost), cell.latency.n) == (1, 1, 0, 0, 1)


def test_silence_becomes_a_loss_after_a_day():
    one = Outcome("treatment", "low")
    for event in visit(device(Faults(download_loss={EVERY: 1.0}))):
        one.take(event, 2, 0.0)
    lost = [sum(cells_of([one], hour, 100)["treatment", "low"].lost) for hour in (24.0, 24.5)]
    assert lost == [0, 1]


def test_events_of_another_version_say_nothing_of_the_arm():
    one = Outcome("treatment", "low")
    for event in visit(device(usual=Faults(crash={EVERY: 1.0})), decision(1, "halted")):
        one.take(event, 2, 0.0)
    assert (one.assigned, one.crashed, one.reached) == (False, False, -1)
    assert sum(one.histogram) > 0, "but how fast its unit is, as the ingester has it"


# -- the pure core


def rollout(faults, number=2000, days=10.0, usual=None, chances=None, hold=30.0, **app):
    """20, 50 and 100 %, a day and a night each, which is what a loss needs to be seen."""
    model = App("digits", 1, {2: faults}, usual or Faults(), **app)
    steps = [Step(2_000, hold, 100), Step(5_000, hold, 200), Step(10_000, hold, 200)]
    run = Rollout(fleet_of(number, [model], chances or Even()), model, steps)
    run.run(days)
    return run


def told(run):
    return [(happening.what, happening.percent_bp) for happening in run.history]


def test_a_harmless_release_reaches_everybody():
    crashing = Faults(crash={EVERY: 0.02})
    run = rollout(crashing, 1000, usual=crashing)
    assert told(run) == [("started", 2_000), ("advanced", 5_000), ("advanced", 10_000), ("completed", 10_000)]
    assert run.history[-1].hour >= 90


def test_crashes_of_one_class_halt_that_class_and_the_rest_goes_on():
    run = rollout(Faults(crash={EVERY: 0.02, "low": 0.06}), 6000, 3, Faults(crash={EVERY: 0.02}), hold=24.0)
    assert (run.state, run.halted_classes, run.percent_bp) == ("running", ("low",), 10_000)
    assert ("class_halted", 5_000) in told(run)
    given = Counter((each.kind.name, each.held["digits"].version) for each in run.devices)
    assert given["low", 1] > given["low", 2] > 0
    assert given["high", 2] + given["mid", 2] > 0.95 * 4500


def test_silence_holds_after_a_day_and_never_advances():
    run = rollout(Faults(), 500, 4, is_silent=True)
    assert told(run) == [("started", 2_000), ("held", 2_000)]
    assert run.history[-1].reasons[0] == "no data for 24 h"


def test_few_forgers_hold_and_many_end_it():
    few = rollout(Faults(forged={EVERY: 0.03}), 1000, 2)
    assert (few.state, told(few)[-1]) == ("running", ("held", 2_000))
    many = rollout(Faults(forged={EVERY: 0.15}), 1000, 2)
    assert told(many)[-1] == ("rolled_back", 2_000)
    assert "units refused files of the treatment as not genuine" in many.history[-1].reasons[0]


def test_a_slow_tail_and_lost_downloads_are_noticed():
    slow = rollout(Faults(slow={EVERY: 0.4}), 2000, 2)
    assert slow.history[-1].what in {"held", "rolled_back"}
    lossy = rollout(Faults(download_loss={EVERY: 0.25}), 2000, 2, hold=40.0)
    assert told(lossy) == [("started", 2_000), ("held", 2_000)]
    assert lossy.history[-1].reasons[0].startswith("funnel: ")


def test_what_does_not_load_on_a_class_is_halted():
    run = rollout(Faults(compile_failure={"low": 0.5}), 3000, 2)
    assert run.halted_classes == ("low",) or run.state == "halted"


def test_a_plan_must_rise():
    require_rising([Step(100), Step(200)])
    with pytest.raises(ValueError, match=r"rising percentages, got \[200, 200\]"):
        require_rising([Step(200), Step(200)])


# -- the driver


class Server(BaseHTTPRequestHandler):
    """Answers polls with what it is set to, and events with the next status of a list."""

    statuses: list[int] = []
    batches: list[int] = []
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        if self.headers.get("If-None-Match") == '"1"':
            return self.answer(304, b"")
        return self.answer(200, json.dumps({"models": {"digits": {"decision": decision(), "manifest": {}}}}).encode())

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        status = self.statuses.pop(0) if self.statuses else 202
        self.batches.append(status)
        self.answer(status, b'{"accepted": 10, "rejected": []}')

    def answer(self, status, body):
        self.send_response(status)
        for name, value in {"Content-Length": len(body), "ETag": '"1"', "Retry-After": "30"}.items():
            self.send_header(name, str(value))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    Server.statuses, Server.batches = [], []
    with ThreadingHTTPServer(("127.0.0.1", 0), Server) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()
        thread.join()


def test_a_driver_keeps_events_until_they_are_taken_and_waits_as_it_is_told(server):
    Server.statuses = [503]
    seconds = [0.0]
    with Driver(server, "demo", "production", [device()], threads=1, clock=lambda: seconds[0]) as driver:
        driver.visit()
        assert (driver.tally.refused, driver.waiting_events) == (1, len(WHOLE))
        driver.visit()
        assert Server.batches == [503], "30 seconds are not over"
        seconds[0] = 31.0
        driver.visit()
        assert (Server.batches, driver.waiting_events) == ([503, 202], 0)
        assert (driver.tally.polls, driver.tally.unchanged, driver.tally.events) == (3, 2, len(WHOLE))
        assert {place.arm: len(units) for place, units in driver.tally.assigned.items()} == {"treatment": 1}
        assert dict(driver.reasons("digits")) == {("low", "rollout_treatment", 2): 1}
        assert not driver.tally.errors


def test_a_driver_sends_what_was_put_off_without_another_poll(server):
    Server.statuses = [503]
    seconds = [0.0]
    with Driver(server, "demo", "production", [device()], threads=1, clock=lambda: seconds[0]) as driver:
        driver.visit()
        assert driver.flush() == len(WHOLE), "30 seconds are not over"
        seconds[0] = 31.0
        assert driver.flush() == 0
        assert (Server.batches, driver.tally.polls, driver.tally.events) == ([503, 202], 1, len(WHOLE))
        assert driver.flush() == 0
        assert Server.batches == [503, 202], "there was nothing to send"


def invoke(*arguments):
    result = CliRunner().invoke(main.cli, [str(argument) for argument in arguments])
    return result.exit_code, result.output


def test_simulate_drives_devices_and_tells_what_they_got(server):
    told = ("simulate", "digits", "--device-url", server, "--installed", 1, "--version", 2, "--devices", 20)
    code, output = invoke("--token", "x", *told, "--days", 2, "--pause", 0, "--compile-failure", "low=1")
    assert code == 0, output
    assert "day 1: 20 rollout_treatment 2" in output
    assert re.search(r"compile\s+│\s+15 │\s+5", output), output
    _, output = invoke("--token", "x", *told, "--even", "--crash", "1")
    assert re.search(r"crash\s+│\s+0\s+│\s+20", output), "not among loads that failed"
    assert re.search(r"compile\s+│\s+20\s+│\s+0", output), output
    code, output = invoke("--token", "x", "--json", *told)
    assert json.loads(output)["given"][0] == {
        "kind": "high",
        "reason": "rollout_treatment",
        "version": 2,
        "devices": 7,
    }


def test_simulate_tries_a_plan_without_a_server_or_a_token():
    steps = ("--step", "20:6:10", "--step", "100:6:10")
    code, output = invoke("simulate", "digits", "--pure", "--devices", 300, "--days", 2, "--even", *steps)
    assert code == 0, output
    assert [line.partition(":00  ")[2][:10] for line in output.splitlines()[:3]] == [
        "started, 2",
        "advanced, ",
        "completed,",
    ]
    assert output.endswith("completed, 100 %\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--pure", "--crash", "lo=1"], "expected 0 to 1, or KIND=SHARE with high, mid, low, got 'lo=1'"),
        (["--pure", "--crash", "1.5"], "got '1.5'"),
        (["--pure", "--step", "50", "--step", "20"], "expected rising percentages, got [5000, 2000]"),
        ([], "expected a token"),
    ],
)
def test_simulate_says_what_it_expected(arguments, message):
    code, output = invoke("simulate", "digits", *arguments)
    assert code == 2
    assert message in output


def test_a_server_that_is_not_there_is_an_error_that_is_counted():
    with Driver("http://127.0.0.1:9", "demo", "production", [device()]) as driver:
        driver.visit()
    assert dict(driver.tally.errors) == {"ConnectionRefusedError": 1}
