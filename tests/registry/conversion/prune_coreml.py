"""Sets the smaller three quarters of a package's weights to zero, in place, as fine-tuning would have. A program."""

import shutil
import sys
from pathlib import Path

import coremltools as ct
from coremltools.optimize import coreml as optimize

from registry.conversion.worker.coreml import write_package

if __name__ == "__main__":
    path = Path(sys.argv[1])
    model = ct.models.MLModel(str(path), skip_model_load=True)
    config = optimize.OptimizationConfig(optimize.OpMagnitudePrunerConfig(target_sparsity=0.75, weight_threshold=512))
    pruned = optimize.decompress_weights(optimize.prune_weights(model, config))
    shutil.rmtree(path)
    write_package(pruned, path)
    sys.stdout.write("{}")
