"""From assigned to the first inference: how far a unit came, whether it failed there, whether it went silent. Pure.

`reached` is the last stage that was passed, `failed` the furthest at which a failure was reported. A failure that was
overcome is none: a download that broke off and was resumed has passed.
"""

from __future__ import annotations

from datetime import timedelta

FUNNEL = (
    "assigned",
    "offered",
    "download",
    "verify",
    "unpack",
    "compile",
    "sanity",
    "activate",
    "first_inference",
)
RANK = {stage: rank for rank, stage in enumerate(FUNNEL)}
OFFERED, ACTIVATED, COMPLETE = RANK["offered"], RANK["activate"], RANK["first_inference"]

# How long a device may be silent after a stage. Phones report at their next poll, and may be off for a night; the
# first inference waits for somebody who uses the app.
DEADLINE = timedelta(hours=24)
DEADLINE_AFTER_ACTIVATION = timedelta(hours=72)

# Reported when what arrived is not what was published and signed, as opposed to what is merely old or expired.
INTEGRITY_CODES = frozenset(
    {
        "hash_mismatch",
        "download_too_long",
        "file_not_as_published",
        "file_of_another_release",
        "manifest_unsigned",
        "metadata_unsigned",
        "metadata_invalid",
    }
)
CRASH_CODE = "load_crashed"
LOADING_STAGES = ("compile", "sanity")


def lost_before(reached: int, age: timedelta, failed: int = -1) -> int | None:
    """The stage (rank) that a silent unit was lost at; None if it is not lost.

    `age` is the time since the last stage was passed. Who was only assigned has nothing to report: a control gets
    nothing new. Who failed has reported.
    """
    if not OFFERED <= reached < COMPLETE or failed > reached:
        return None
    deadline = DEADLINE_AFTER_ACTIVATION if reached == ACTIVATED else DEADLINE
    return reached + 1 if age > deadline else None
