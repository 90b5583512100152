"""What the latest look measured, as tables: each figure is the stored one."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from experiments import words
from experiments.funnel import FUNNEL
from experiments.models import AnalysisRun, Experiment
from experiments.policy import Action, Guardrail, Measure, Policy, policy_from_json

STAGES = {stage: stage.replace("_", " ") for stage in FUNNEL}
WORST = ("above twice the margin", "above", "perhaps above")
_NORMAL_95 = 1.96


@dataclass(frozen=True)
class Guarded:
    """One guardrail of one treatment."""

    name: str
    arm: str
    about: str
    measure: str
    harm: str
    bound: str
    margin: str
    then: str
    standing: str
    tone: str


def guarded(run: AnalysisRun, policy: Policy) -> list[Guarded]:
    """Worst first where anything is wrong, otherwise as the policy has them."""
    rules = {rule.name: rule for rule in policy.guardrails}
    several = len({metric["arm"] for metric in metrics(run)}) > 1
    rows = [_guarded(metric, rules[metric["name"]], several) for metric in metrics(run) if metric["name"] in rules]
    return sorted(rows, key=lambda row: WORST.index(row.standing) if row.standing in WORST else len(WORST))


def metrics(run: AnalysisRun) -> list[dict[str, Any]]:
    """None of a look that failed."""
    found: list[dict[str, Any]] = run.results.get("metrics", [])
    return found


def _guarded(metric: Mapping[str, Any], rule: Guardrail, several: bool) -> Guarded:  # noqa: FBT001
    measure, margin = metric["measure"], metric["margin"]
    standing, tone = _standing(metric, rule)
    return Guarded(
        name=metric["name"].replace("_", " "),
        arm=metric["arm"] if several else "",
        about=words.GUARDED.get(metric["name"], ""),
        measure=measure,
        harm=words.harm(measure, metric["harm"]),
        bound=words.harm(measure, metric["bound"]),
        margin=words.harm(measure, margin),
        then=words.consequences(rule),
        standing=standing,
        tone=tone,
    )


def _standing(metric: Mapping[str, Any], rule: Guardrail) -> tuple[str, str]:
    """The bound decides; an estimate above the margin alone may be chance, of a ratio it is so half of the time."""
    bound, margin = metric["bound"], metric["margin"]
    if not metric["is_enough"]:
        return "too little data", "calm"
    if bound is not None and bound > margin:
        tone = "calm" if rule.is_dry_run else "warn" if rule.action is Action.HOLD else "bad"
        is_severe = rule.severe_action is not None and bound > 2 * margin
        return (WORST[0], "calm" if rule.is_dry_run else "bad") if is_severe else (WORST[1], tone)
    noticed = 2 * margin if metric["measure"] == Measure.RATIO else margin
    return (WORST[2], "warn") if metric["harm"] > noticed else ("within", "good")


# -- from assigned to the first inference


@dataclass(frozen=True)
class FunnelArm:
    name: str
    is_control: bool
    units: int
    stages: list[dict[str, Any]]
    facts: dict[str, Any]


def funnel(run: AnalysisRun, experiment: Experiment) -> list[FunnelArm]:
    """By arm, the control first; each stage with the units that reached it, failed or were lost at it."""
    controls = {arm["name"] for arm in experiment.arms if arm["control"]}
    return [
        FunnelArm(
            name,
            name in controls,
            told["units"],
            [{**stage, "words": STAGES.get(stage["stage"], stage["stage"])} for stage in told["funnel"]],
            {key: value for key, value in told.items() if key != "funnel"},
        )
        for name, told in run.results.get("arms", {}).items()
    ]


def funnel_rows(arms: Sequence[FunnelArm]) -> list[dict[str, Any]]:
    """A row for each stage, its figures of every arm side by side."""
    return [
        {"words": stage["words"], "arms": [{"name": arm.name, "units": arm.units, **arm.stages[rank]} for arm in arms]}
        for rank, stage in enumerate(arms[0].stages)
    ] if arms else []  # fmt: skip


# -- do the arms have the units they should have?


@dataclass(frozen=True)
class Split:
    arm: str
    observed: int
    expected: float
    share: float

    @property
    def difference(self) -> str:
        return f"{self.observed - self.expected:+.0f}".replace("-", "−")


def splits(run: AnalysisRun) -> list[Split]:
    told = run.results.get("srm")
    if not told:
        return []
    whole = sum(told["counts"].values())
    parts = sum(told["shares"].values())
    return [
        Split(arm, told["counts"][arm], whole * share / parts, share / parts) for arm, share in told["shares"].items()
    ]


def split_standing(run: AnalysisRun, policy: Policy) -> tuple[str, str]:
    """In words, and how bad it is."""
    told = run.results.get("srm")
    if not told:
        return "not tested: with one arm, or while halted, no split is expected", "calm"
    if told["factor"] > policy.srm_halt:
        return f"mismatch: factor {told['factor']:.3g} is above {policy.srm_halt:g}, which halts", "bad"
    if told["p_value"] < policy.srm_warning:
        return f"mismatch: p {told['p_value']:.2g} is below {policy.srm_warning:g}, which holds", "warn"
    return "as planned", "good"


# -- one read, at the planned end


def final_rows(run: AnalysisRun, policy: Policy) -> list[dict[str, Any]]:
    """Primaries first. Without an interval nothing can be said yet."""
    measures = {rule.name: rule.measure for rule in policy.guardrails}
    told = [each for each in run.results.get("final", ()) if each["name"] in measures]
    several = len({each["arm"] for each in told}) > 1
    rows = [_final(each, measures[each["name"]], several) for each in told]
    return sorted(rows, key=lambda row: not row["is_primary"])


def _final(told: Mapping[str, Any], measure: Measure, several: bool) -> dict[str, Any]:  # noqa: FBT001
    low, high = told["interval"]
    cuped = told.get("cuped")
    return {
        "name": told["name"].replace("_", " "),
        "arm": told["arm"] if several else "",
        "is_primary": told["is_primary"],
        "difference": "–" if low is None else words.effect(measure, told["difference"]),
        "interval": "" if low is None or high is None else words.between(measure, low, high),
        "p_value": told["p_value"],
        "adjusted_p_value": told["adjusted_p_value"],
        "cuped": cuped and cuped["variance_reduction"] > 0 and {
            **cuped,
            "plain": words.effect(measure, cuped["plain_difference"]),
        },
    }  # fmt: skip


# -- device classes


@dataclass(frozen=True)
class ClassTable:
    """Of one treatment: a row a class with the effect on each metric, and whether classes differ."""

    arm: str
    names: list[str]
    rows: list[dict[str, Any]]
    spread: list[dict[str, Any]]


def class_tables(run: AnalysisRun, halted: Sequence[str]) -> list[ClassTable]:
    arms = list(dict.fromkeys(metric["arm"] for metric in metrics(run)))
    return [_class_table(arm, [each for each in metrics(run) if each["arm"] == arm], halted) for arm in arms]


def _class_table(arm: str, of_arm: Sequence[Mapping[str, Any]], halted: Sequence[str]) -> ClassTable:
    classes = sorted({name for metric in of_arm for name in metric["by_class"]})
    return ClassTable(
        arm,
        [metric["name"].replace("_", " ") for metric in of_arm],
        [
            {
                "name": name,
                "is_halted": name in halted,
                "units": _units(of_arm, name),
                "cells": list(_cells(of_arm, name)),
            }
            for name in classes
        ],
        [
            {
                "name": metric["name"].replace("_", " "),
                "p_value": metric["heterogeneity"]["p_value"],
                "i_squared": metric["heterogeneity"]["i_squared"],
                "differs": len(metric["by_class"]) > 1 and metric["heterogeneity"]["p_value"] < 0.05,  # noqa: PLR2004
            }
            for metric in of_arm
        ],
    )  # fmt: skip


def _units(of_arm: Sequence[Mapping[str, Any]], name: str) -> int:
    return max((metric["by_class"][name]["units"] for metric in of_arm if name in metric["by_class"]), default=0)


def _cells(of_arm: Sequence[Mapping[str, Any]], name: str) -> Iterator[dict[str, Any]]:
    for metric in of_arm:
        told, label = metric["by_class"].get(name), metric["name"].replace("_", " ")
        if told is None or told["standard_error"] is None:
            yield {"label": label, "effect": "–", "half": ""}
            continue
        half = _NORMAL_95 * told["standard_error"]
        measure = Measure.SHARE if metric["measure"] == Measure.RATIO else metric["measure"]
        yield {
            "label": label,
            "effect": words.effect(measure, told["difference"]),
            "half": words.between(measure, told["difference"] - half, told["difference"] + half),
        }


# -- how the policy differs from the default


def policy_differences(document: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """(name, default, here), where they differ."""
    here, default = policy_from_json(document), Policy()
    rules = {rule.name: rule for rule in default.guardrails}
    told = [
        (name, f"{getattr(default, name):g}", f"{getattr(here, name):g}")
        for name in document
        if name != "guardrails" and getattr(default, name) != getattr(here, name)
    ]
    for rule in here.guardrails:
        for name in document.get("guardrails", {}).get(rule.name, {}):
            before, after = getattr(rules[rule.name], name), getattr(rule, name)
            if before != after:
                shown = (_shown(rule, name, before), _shown(rule, name, after))
                told.append((f"{rule.name.replace('_', ' ')}: {name.replace('_', ' ')}", *shown))
    return told


def _shown(rule: Guardrail, name: str, value: object) -> str:
    if name == "margin":
        return words.harm(rule.measure, float(str(value)))
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "none" if value is None else str(value)
