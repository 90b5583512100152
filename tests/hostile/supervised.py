"""One supervised job in a process of its own, on a kernel that refuses what the test says. The report goes to stdout.

python -m tests.hostile.supervised '{"module": …, "refused": ["unshare"], "job": {…}}'
"""

import ctypes
import errno
import json
import platform
import struct
import sys
from dataclasses import replace
from pathlib import Path

from registry.conversion import supervision
from registry.conversion.worker.job import Job
from registry.conversion.worker.kernel import checked, libc

PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, FILTER = 38, 22, 2
LOAD, JUMP_IF_EQUAL, RETURN = 0x20, 0x15, 0x06
ALLOW, REFUSE = 0x7FFF0000, 0x00050000
NUMBERS = {
    "x86_64": {"unshare": 272, "landlock": 444, "setuid": 105},
    "aarch64": {"unshare": 97, "landlock": 444, "setuid": 146},
}


def refuse(calls: list[str]) -> None:
    """From now on these calls fail in this process and all that it starts, as under a container's seccomp profile."""
    numbers = [NUMBERS[platform.machine()][call] for call in calls]
    steps = [(LOAD, 0, 0, 0)]
    for number in numbers:
        steps += [(JUMP_IF_EQUAL, 0, 1, number), (RETURN, 0, 0, REFUSE | errno.EPERM)]
    program = b"".join(struct.pack("=HBBI", *step) for step in [*steps, (RETURN, 0, 0, ALLOW)])
    held = ctypes.create_string_buffer(program, len(program))
    header = struct.pack("@HP", len(steps) + 1, ctypes.addressof(held))
    checked(libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "prctl")
    checked(libc.prctl(PR_SET_SECCOMP, FILTER, header, 0, 0), "seccomp")


if __name__ == "__main__":
    asked = json.loads(sys.argv[1])
    if asked["refused"]:
        refuse(asked["refused"])
    supervision.WORKER_MODULE = asked["module"]
    report = supervision.supervise(
        lambda scratch: Job.from_json({**asked["job"], "scratch": str(scratch)}),
        limits=replace(supervision.RECIPE_LIMITS, wall_seconds=120, user=asked.get("user", "nobody")),
        on_heartbeat=lambda _: None,
        workspace=Path(asked["workspace"]),
    )
    sys.stdout.write(json.dumps(report.to_json()))
