"""Steps of the `coreml` family: each writes the recipe's package into the job's output."""

import shutil
from collections.abc import Callable, Mapping
from types import MappingProxyType

from registry.conversion.recipes import Recipe
from registry.conversion.worker.job import Job, WorkerError
from registry.conversion.worker.trace_files import Trace

VERSIONS_OF = ("coremltools", "numpy")


def copy_coreml(job: Job, recipe: Recipe, trace: Trace) -> tuple[str, ...]:
    assert job.trace is not None
    if not trace.coreml:
        raise WorkerError(
            "no_coreml", f"expected the trace to hold a Core ML package; got {trace.coreml_error or 'none'}"
        )
    target = job.output / recipe.entry
    shutil.copytree(job.trace / trace.coreml, target, copy_function=shutil.copyfile)
    for member in (target, *target.rglob("*")):
        member.chmod(0o755 if member.is_dir() else 0o644)
    return ()


STEPS: Mapping[str, Callable[[Job, Recipe, Trace], tuple[str, ...]]] = MappingProxyType({"copy_coreml": copy_coreml})
