from collections.abc import Callable
from pathlib import Path

import pytest

SHARED_MODELS = Path(__file__).parents[4] / "shared" / "data" / "models"


@pytest.fixture
def shared_model() -> Callable[[str], Path]:
    """A ready model that nobody here made; skips where it is absent."""

    def find(name: str) -> Path:
        path = SHARED_MODELS / name
        if not path.is_file():
            pytest.skip(f"{name} is not on this machine")
        return path

    return find
