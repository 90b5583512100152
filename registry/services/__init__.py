"""The verbs of the registry. REST views, admin actions, commands and tasks all call these."""

from registry.services.applications import create_application, create_channel, rename_application
from registry.services.conversions import (
    cancel_job,
    cancel_version,
    prioritise_job,
    request_conversions,
    request_recipes,
    request_reproduction,
    retry_job,
    run_job,
    run_reproduction,
    sweep_lost_jobs,
)
from registry.services.device_classes import delete_device_class, order_device_classes, save_device_class
from registry.services.gates import (
    missing_from_release,
    override_gates,
    releasable_variants,
    report_benchmark,
    set_gates,
    verdicts,
)
from registry.services.members import grant, require_role, revoke
from registry.services.profiles import create_profile, delete_profile, replace_profile
from registry.services.sources import inspect_evaluation_set, inspect_source
from registry.services.versions import delete_upload, rebuild_version, receive_upload, register_version, yank_version

__all__ = [
    "cancel_job",
    "cancel_version",
    "create_application",
    "create_channel",
    "create_profile",
    "delete_device_class",
    "delete_profile",
    "delete_upload",
    "grant",
    "inspect_evaluation_set",
    "inspect_source",
    "missing_from_release",
    "order_device_classes",
    "override_gates",
    "prioritise_job",
    "rebuild_version",
    "receive_upload",
    "register_version",
    "releasable_variants",
    "rename_application",
    "replace_profile",
    "report_benchmark",
    "request_conversions",
    "request_recipes",
    "request_reproduction",
    "require_role",
    "retry_job",
    "revoke",
    "run_job",
    "run_reproduction",
    "save_device_class",
    "set_gates",
    "sweep_lost_jobs",
    "verdicts",
    "yank_version",
]
