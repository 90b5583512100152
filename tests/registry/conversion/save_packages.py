"""Saves one specification as two packages, as coremltools does it. Run as a program: FOLDER."""

import sys
from pathlib import Path

# It would import them where it finds them, for seconds.
sys.modules.update(dict.fromkeys(("tensorflow", "sklearn", "matplotlib", "pandas")))

import numpy as np  # noqa: E402
from coremltools.models import datatypes  # noqa: E402
from coremltools.models.neural_network import NeuralNetworkBuilder  # noqa: E402
from coremltools.models.utils import save_spec  # noqa: E402

folder = Path(sys.argv[1])
builder = NeuralNetworkBuilder([("x", datatypes.Array(3))], [("y", datatypes.Array(2))])
weights = np.arange(6, dtype=np.float32).reshape(2, 3)
builder.add_inner_product("y", weights, np.zeros(2), 3, 2, has_bias=True, input_name="x", output_name="y")
for name in ("first", "second"):
    save_spec(builder.spec, str(folder / f"{name}.mlpackage"))
