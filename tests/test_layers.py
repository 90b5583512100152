"""What modules say of themselves, the contracts of import-linter hold them to (`make lint`); and what starts light."""

import ast
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parent.parent
PURE = "Pure modules know no Django"


def contract(name):
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    return next(contract for contract in contracts if contract["name"] == name)


def modules():
    for app in ("registry", "experiments", "distribution", "deploy"):
        for path in (ROOT / app).rglob("*.py"):
            name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
            yield name, ast.get_docstring(ast.parse(path.read_text())) or ""


def test_every_module_that_calls_itself_pure_is_under_the_contract():
    held = contract(PURE)["source_modules"]
    pure = [name for name, words in modules() if re.search(r"\bPure[.:]|Imports no Django", words.partition("\n\n")[0])]
    assert len(pure) > 40, "else this looks for the wrong words"
    assert [name for name in pure if not any(f"{name}.".startswith(f"{above}.") for above in held)] == []


def test_every_module_of_a_contract_exists():
    named = [
        each
        for one in map(contract, (PURE, "TensorFlow and coremltools only in the conversion worker"))
        for each in one["source_modules"]
    ]
    assert {*named} <= {name for name, _ in modules()}


def test_a_web_process_starts_without_the_libraries_of_workers():
    program = "import sys, django; django.setup(); import deploy.urls; print(*sys.modules)"
    environment = {**os.environ, "DJANGO_SETTINGS_MODULE": "deploy.settings"}
    started = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, env=environment
    )
    heavy = {"scipy", "tensorflow", "keras", "coremltools", "ai_edge_litert", "ai_edge_quantizer", "onnxruntime", "PIL"}
    assert "experiments.api.views" in started.stdout.split()
    assert heavy & set(started.stdout.split()) == set()
