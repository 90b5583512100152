"""The verbs of the registry. REST views, admin actions, commands and tasks all call these."""

from registry.services.applications import create_application, create_channel, grant, require_role
from registry.services.conversions import request_conversions, run_job, sweep_lost_jobs
from registry.services.device_classes import delete_device_class, save_device_class
from registry.services.members import rename_application, revoke
from registry.services.versions import (
    inspect_evaluation_set,
    inspect_source,
    receive_upload,
    register_version,
    yank_version,
)

__all__ = [
    "create_application",
    "create_channel",
    "delete_device_class",
    "grant",
    "inspect_evaluation_set",
    "inspect_source",
    "receive_upload",
    "register_version",
    "rename_application",
    "request_conversions",
    "require_role",
    "revoke",
    "run_job",
    "save_device_class",
    "sweep_lost_jobs",
    "yank_version",
]
