"""Builds Core ML recipes of a trace and evaluates each package. Run as a program: TRACE EVALUATION_SET FOLDER SLUG…

Prints JSON: slug -> what was found. A process of its own, for coremltools would otherwise import TensorFlow.
"""

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

import coremltools as ct
import numpy as np
from coremltools.optimize import coreml as optimize

from registry.conversion.evaluation_set import EvaluationSet
from registry.conversion.measures import parity, top1
from registry.conversion.recipes import Recipe, recipe_named
from registry.conversion.worker.coreml import write_package
from registry.conversion.worker.coreml_compression import weights_of
from registry.conversion.worker.golden import evaluation_of
from registry.conversion.worker.job import Job
from registry.conversion.worker.mil_interpreter import CoreMlModel
from registry.conversion.worker.steps.coreml import STEPS
from registry.conversion.worker.trace_files import Reference, Trace, batched


def main(trace: Path, evaluation_set: Path, folder: Path, slugs: list[str]) -> dict[str, Any]:
    read, found = Trace.read(trace), {}
    evaluation = evaluation_of(evaluation_set, read.signature.inputs)
    assert evaluation is not None
    for slug in slugs:
        recipe, output = recipe_named(slug), folder / slug
        output.mkdir(parents=True)
        notes = STEPS[recipe.step](Job("optimise", output, folder, recipe=slug, trace=trace), recipe, read)
        package = output / recipe.entry
        found[slug] = {"notes": notes, "digest": digest(package), **measured(package, recipe, read, trace, evaluation)}
        if recipe.step == "compress_coreml":
            found[slug]["decompressed"] = difference_when_decompressed(package, read, recipe, evaluation, folder / slug)
    return found


def digest(package: Path) -> str:
    whole = hashlib.sha256()
    for path in sorted(package.rglob("*")):
        whole.update(f"{path.relative_to(package)} {path.stat().st_mode:o}\n".encode())
        whole.update(path.read_bytes() if path.is_file() else b"")
    return whole.hexdigest()


def measured(package: Path, recipe: Recipe, read: Trace, trace: Path, evaluation: EvaluationSet) -> dict[str, Any]:
    model = CoreMlModel(package, read.signature, recipe.parameters["specification_version"])
    outputs = batched(model.infer, evaluation.inputs)
    near = parity(outputs, Reference.read(trace).evaluation)
    (scores,) = outputs.values()
    return {
        "max": near.max_abs_error,
        "mean": near.mean_abs_error,
        "agreement": near.top1_agreement,
        "accuracy": float(np.mean(top1(scores) == np.asarray(evaluation.labels).ravel())),
        "types": sorted({spec.dtype for spec in (*model.signature.inputs, *model.signature.outputs)}),
        "bytes": sum(path.stat().st_size for path in package.rglob("*") if path.is_file()),
        "ios": model.min_runtime_version,
        "compressed": [weight.compressed for weight in weights_of(opened(package)) if weight.size > 512],
    }


def opened(package: Path) -> Any:
    return ct.models.MLModel(str(package), skip_model_load=True)


def difference_when_decompressed(
    package: Path, read: Trace, recipe: Recipe, evaluation: EvaluationSet, folder: Path
) -> float:
    """Largest difference from the same program with coremltools' own decompression of the weights."""
    plain = folder / "decompressed.mlpackage"
    write_package(optimize.decompress_weights(opened(package)), plain)
    assert not any(weight.compressed for weight in weights_of(opened(plain)))
    few = evaluation.take(20).inputs
    own, theirs = (batched(CoreMlModel(path, read.signature).infer, few) for path in (package, plain))
    return max(float(np.abs(own[name] - theirs[name]).max()) for name in own)


if __name__ == "__main__":
    sys.stdout.write(json.dumps(main(*map(Path, sys.argv[1:4]), sys.argv[4:])))
