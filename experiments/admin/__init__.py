"""The admin's pages of experiments and rollouts: how they stand, why, and what was decided by whom."""

from experiments.admin.design import rollout_panel
from experiments.admin.experiments import ExperimentAdmin
from experiments.admin.holdbacks import HoldbackAdmin
from experiments.admin.layers import LayerAdmin
from registry.admin import shared

shared.version_panels.append(rollout_panel)

__all__ = ["ExperimentAdmin", "HoldbackAdmin", "LayerAdmin"]
