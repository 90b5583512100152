"""The wheel holds what the programs read: setuptools takes nothing but Python along by itself."""

import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGES = ("registry", "experiments", "distribution", "deploy")


def test_every_file_that_is_not_python_is_package_data():
    patterns = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]
    packaged = set()
    for folder in [found.parent for name in PACKAGES for found in (ROOT / name).rglob("__init__.py")]:
        name = ".".join(folder.relative_to(ROOT).parts)
        for pattern in [*patterns["*"], *patterns.get(name, [])]:
            packaged.update(folder.glob(pattern))
    needed = {
        path
        for name in PACKAGES
        for path in (ROOT / name).rglob("*")
        if path.is_file() and path.suffix != ".py" and "__pycache__" not in path.parts
    }
    assert len(needed) > 40
    assert needed <= packaged
