"""Conversion jobs: ask for them, run one, steer them, and find those whose worker was lost.

    request ─► trace: queued ──run_job──► succeeded ─► other traces and recipes: waiting → queued ──run_job──► variant
                                 ├──► failed    ─► what waited: failed, naming the trace    ─┐
                                 └──► cancelled ─► what waited: cancelled                   ─┴─ retry ─► queued

The rows decide; a message in the queue only says where to look: the worker that wakes takes the queued job of its
queue that has the highest priority. A message that is lost is sent again by the sweep, one that comes twice finds
nothing left to do.
"""

from registry.services.conversions.reproducing import request_reproduction, run_reproduction
from registry.services.conversions.requesting import request_conversions, request_recipes
from registry.services.conversions.running import run_job
from registry.services.conversions.steering import cancel_job, cancel_version, prioritise_job, retry_job
from registry.services.conversions.sweeping import sweep_lost_jobs

__all__ = [
    "cancel_job",
    "cancel_version",
    "prioritise_job",
    "request_conversions",
    "request_recipes",
    "request_reproduction",
    "retry_job",
    "run_job",
    "run_reproduction",
    "sweep_lost_jobs",
]
