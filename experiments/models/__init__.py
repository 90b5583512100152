"""Who is in which arm, and what devices reported."""

from experiments.models.analysis import AnalysisRun
from experiments.models.events import DeviceEvent, Exposure, MetricRollup, SeenEvent
from experiments.models.experiments import Approval, Experiment, ExperimentQuerySet, Override, Step
from experiments.models.layers import Holdback, Layer, LayerAllocation
from experiments.models.phases import Arm, Phase

__all__ = [
    "AnalysisRun",
    "Approval",
    "Arm",
    "DeviceEvent",
    "Experiment",
    "ExperimentQuerySet",
    "Exposure",
    "Holdback",
    "Layer",
    "LayerAllocation",
    "MetricRollup",
    "Override",
    "Phase",
    "SeenEvent",
    "Step",
]
