"""`python -m registry.conversion.worker JOB.json`: one job, then exit.

Exit status 0 means that result.json holds a report, also of a failure; any other end is the runner's to interpret.
"""

import gc
import importlib
import json
import os
import sys
import traceback
from dataclasses import replace
from pathlib import Path
from typing import Any

from registry.conversion.recipes import ADOPTION_STEPS, TRACES
from registry.conversion.report import Failure, Report, State
from registry.conversion.worker import confine
from registry.conversion.worker.admission import admit
from registry.conversion.worker.job import Job, WorkerError, write_result
from registry.conversion.worker.refusals import first_sentence

WITH_TENSORFLOW = frozenset(trace.step for trace in TRACES.values())
# Imported by the converters where it is installed, for models and plots that are none of ours: 4 s of a trace.
SPARED = ("matplotlib", "pandas", "sklearn")
STEPS = WITH_TENSORFLOW | {*ADOPTION_STEPS.values(), "optimise", "verify"}


def main(job_file: Path) -> None:
    data = json.loads(job_file.read_text("utf-8"))
    isolation = confine.apply(data["confinement"])
    job = Job.from_json(data["job"])
    spare_imports(job.step)
    report = run(job, isolation)
    write_result(job.scratch, replace(report, notes=report.notes + isolation.notes))


def spare_imports(step: str) -> None:
    """Make converters see what they would import without need as not installed."""
    # coremltools imports TensorFlow where it finds it: 2 s and 500 MB that only traces need.
    spared = SPARED if step in WITH_TENSORFLOW else (*SPARED, "tensorflow")
    sys.modules.update(dict.fromkeys(spared))  # type: ignore[arg-type]


def run(job: Job, isolation: confine.Isolation) -> Report:
    """The job's report; whatever goes wrong inside a converter is this job's own failure."""
    try:
        admit(job, isolation)
        report: Report = step_module(job.step).run(job)
    except WorkerError as error:
        state: State = "not_applicable" if error.code == "not_applicable" else "failed"
        return Report(state=state, error=Failure(error.code, error.detail))
    except MemoryError:
        return Report(state="out_of_memory", error=Failure("address_space", "the address-space limit was reached"))
    except ImportError as error:
        return Report(
            state="failed", error=Failure("converter_missing", f"expected the converters installed; got {error}")
        )
    except Exception as error:  # noqa: BLE001 converters raise whatever their translators raise; the log keeps the rest
        traceback.print_exc()
        return Report(
            state="failed", error=Failure("converter_error", f"{type(error).__name__}: {first_sentence(str(error))}")
        )
    return report


def step_module(step: str) -> Any:
    if step not in STEPS:
        raise WorkerError("unknown_step", f"expected a step among {', '.join(sorted(STEPS))}; got {step!r}")
    # What imports make stays: looking through it for garbage while it grows takes longer than some of them.
    gc.disable()
    try:
        return importlib.import_module(f"registry.conversion.worker.{step}")
    finally:
        gc.freeze()
        gc.enable()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
    sys.stdout.flush()
    sys.stderr.flush()
    # The result is written, and nobody needs TensorFlow taken down in order, which takes half a second.
    os._exit(0)
