"""`python -m registry.conversion.worker JOB.json`: one job, then exit.

Exit status 0 means that result.json holds a report, also of a failure; any other end is the runner's to interpret.
"""

import importlib
import json
import sys
import traceback
from pathlib import Path

from registry.conversion.worker import confine

STEP_MODULES = {"trace": "trace", "adopt": "adopt", "optimise": "optimise", "verify": "verify"}


def main(job_file: Path) -> None:
    data = json.loads(job_file.read_text("utf-8"))
    confinement = confine.apply(data["confinement"])
    if data["job"]["step"] != "trace":
        # Otherwise coremltools imports TensorFlow where it is installed: 5 s and 600 MB that these steps never need.
        sys.modules["tensorflow"] = None  # type: ignore[assignment]
    run(data["job"], confinement)


def run(data: dict[str, object], confinement: tuple[str, ...]) -> None:
    # Imported after confinement: these load NumPy and with it native code.
    from dataclasses import replace  # noqa: PLC0415

    from registry.conversion.report import Failure, Report  # noqa: PLC0415
    from registry.conversion.worker.job import Job, WorkerError, write_result  # noqa: PLC0415

    job = Job.from_json(data)
    try:
        module = importlib.import_module(f"registry.conversion.worker.{STEP_MODULES[job.step]}")
        report = module.run(job)
    except WorkerError as error:
        state = "not_applicable" if error.code == "not_applicable" else "failed"
        report = Report(state=state, error=Failure(error.code, error.detail))
    except MemoryError:
        report = Report(state="out_of_memory", error=Failure("out_of_memory", "the address-space limit was reached"))
    except Exception as error:  # noqa: BLE001 whatever a converter raises is this job's failure, and its log is kept
        traceback.print_exc()
        report = Report(state="failed", error=Failure("converter_error", f"{type(error).__name__}: {error}"[:2000]))
    write_result(job.scratch, replace(report, notes=report.notes + confinement))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
