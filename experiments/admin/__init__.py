"""The admin's pages of experiments and rollouts: how they stand, why, and what was decided by whom."""

from experiments.admin.experiments import ExperimentAdmin

__all__ = ["ExperimentAdmin"]
