"""The admin's pages of experiments and rollouts: how they stand, why, and what was decided by whom."""

from experiments.admin.experiments import ExperimentAdmin
from experiments.admin.holdbacks import HoldbackAdmin
from experiments.admin.layers import LayerAdmin

__all__ = ["ExperimentAdmin", "HoldbackAdmin", "LayerAdmin"]
