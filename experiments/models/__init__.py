"""Who is in which arm, and what devices reported."""

from experiments.models.events import DeviceEvent
from experiments.models.experiments import Approval, Experiment, ExperimentQuerySet, Override, Step
from experiments.models.layers import Holdback, Layer, LayerAllocation
from experiments.models.phases import Arm, Phase

__all__ = [
    "Approval",
    "Arm",
    "DeviceEvent",
    "Experiment",
    "ExperimentQuerySet",
    "Holdback",
    "Layer",
    "LayerAllocation",
    "Override",
    "Phase",
    "Step",
]
