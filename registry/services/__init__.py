"""The verbs of the registry. REST views, admin actions, commands and tasks all call these."""

from registry.services.applications import create_application, create_channel, grant, require_role
from registry.services.conversions import request_conversions, run_job, sweep_lost_jobs
from registry.services.versions import receive_upload, register_version, yank_version

__all__ = [
    "create_application",
    "create_channel",
    "grant",
    "receive_upload",
    "register_version",
    "request_conversions",
    "require_role",
    "run_job",
    "sweep_lost_jobs",
    "yank_version",
]
