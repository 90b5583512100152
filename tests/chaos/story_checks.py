"""What must have become of the four rollouts of the story: each of them one of the issue's promises."""

from collections.abc import Callable

from tests.chaos.story import (
    CRASHING,
    DEVICES,
    ENOUGH_FORGERS,
    FORGED,
    FORGERS,
    HARMLESS,
    MODELS,
    NEW,
    OLD,
    SILENT,
    Story,
)


def acts(story: Story, model: str) -> list[tuple[str, str]]:
    """(actor, verb) since it runs, oldest first."""
    said = [(entry["actor"], entry["verb"].removesuffix("_experiment")) for entry in story.changes(model)]
    return said[said.index(("admin", "start")) :]


def the_class_that_crashes_is_halted_and_no_other(story: Story) -> None:
    end = story.ended[CRASHING]
    assert (end["state"], end["percent_bp"], end["halted_classes"]) == ("running", 10_000, ["low"])
    assert acts(story, CRASHING) == [
        ("admin", "start"),
        ("schedule", "advance"),
        ("guardrails", "halt"),
        ("schedule", "advance"),
    ]
    halt = next(entry for entry in story.changes(CRASHING) if entry["actor"] == "guardrails")
    assert halt["reason"].startswith("low: crash: ")
    assert " above the margin of 1" in halt["reason"]


def devices_of_the_halted_class_get_the_control_and_others_go_on(story: Story) -> None:
    given = story.fleet.reasons(CRASHING)
    assert {key for key in given if key[0] != "low"} == {
        ("high", "rollout_treatment", NEW),
        ("mid", "rollout_treatment", NEW),
    }
    assert {key for key in given if key[0] == "low"} == {("low", "halted", OLD), ("low", "rollout_treatment", NEW)}
    # A fifth had it before the next step, and some more until the halt; the other half never gets it.
    low = {reason: number for (kind, reason, _), number in given.items() if kind == "low"}
    assert low["rollout_treatment"] > DEVICES / 4 * 0.15
    assert low["halted"] > DEVICES / 4 * 0.45
    running = {device.kind.name: device.held[CRASHING].version for device, told in story.fleet.answers(CRASHING)
               if told["reason"] == "halted"}  # fmt: skip
    assert running == {"low": OLD}


def a_harmless_release_reaches_everybody_by_itself(story: Story) -> None:
    assert (story.ended[HARMLESS]["state"], story.ended[HARMLESS]["halted_classes"]) == ("completed", [])
    said = acts(story, HARMLESS)
    assert said == [("admin", "start"), ("schedule", "advance"), ("schedule", "advance")]
    assert {(reason, version) for _, reason, version in story.fleet.reasons(HARMLESS)} == {("current_release", NEW)}
    assert {device.held[HARMLESS].version for device in story.fleet.devices} == {NEW}


def a_release_without_telemetry_never_advances(story: Story) -> None:
    end = story.ended[SILENT]
    assert (end["state"], end["percent_bp"], end["phase"]) == ("running", 2_000, 1)
    assert acts(story, SILENT) == [("admin", "start")]
    given = {(reason, version) for _, reason, version in story.fleet.reasons(SILENT)}
    assert ("rollout_treatment", NEW) in given, "devices have it, they only do not say so"
    assert {look["verdict"] for look in story.looks(SILENT)} == {"inconclusive"}
    assert {look["units"] for look in story.looks(SILENT)} == {0}


def forged_failures_of_few_units_hold_and_of_enough_roll_back(story: Story) -> None:
    held = story.forged_after_fifteen
    assert (held["state"], held["percent_bp"], held["decision"]) == ("running", 5_000, "hold")
    assert f"integrity: {FORGERS} of {ENOUGH_FORGERS} units" in " ".join(held["reasons"])
    assert acts(story, FORGED) == [("admin", "start"), ("guardrails", "rollback")]
    assert story.ended[FORGED]["state"] == "rolled_back"
    looks = [(look["verdict"], look["results"].get("integrity_units")) for look in story.looks(FORGED)]
    assert {verdict for verdict, units in looks if units and units < ENOUGH_FORGERS} == {"hold"}
    assert ("rollback", ENOUGH_FORGERS) in looks


def a_hold_is_announced(story: Story) -> None:
    told = [row["event_type"] for row in story.stack.server.webhook_deliveries("story", None)]
    assert {"rollout.held", "rollout.advanced", "rollout.halted", "rollout.completed", "rollout.rolled_back"} <= set(
        told
    )


def nothing_is_lost_or_doubled_when_the_ingester_dies(story: Story) -> None:
    assert story.ingester_kills == 1
    assert story.batches_waiting_at_kill > 0
    tally = story.fleet.tally
    # A slow disk may have put batches off (`tally.refused`): their devices sent them again.
    assert (dict(tally.errors), story.fleet.waiting_events) == ({}, 0)
    assert story.stored() == (tally.events, tally.events)
    assert story.counted(FORGED) == {arm: len(units) for arm, units in story.reported(FORGED).items()}
    assert sum(map(len, story.reported(FORGED).values())) == DEVICES


def nobody_helped(story: Story) -> None:
    """After the start no person said a word."""
    for model in MODELS:
        after = [actor for actor, _ in acts(story, model)[1:]]
        assert set(after) <= {"schedule", "guardrails"}, (model, after)


def two_people_were_needed(story: Story) -> None:
    for model in MODELS:
        said = [(entry["actor"], entry["verb"]) for entry in story.changes(model)]
        assert ("grace", "approve_experiment") in said


CHECKS: tuple[Callable[[Story], None], ...] = (
    the_class_that_crashes_is_halted_and_no_other,
    devices_of_the_halted_class_get_the_control_and_others_go_on,
    a_harmless_release_reaches_everybody_by_itself,
    a_release_without_telemetry_never_advances,
    forged_failures_of_few_units_hold_and_of_enough_roll_back,
    a_hold_is_announced,
    nothing_is_lost_or_doubled_when_the_ingester_dies,
    nobody_helped,
    two_people_were_needed,
)
