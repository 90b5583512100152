"""The real worker without its look at the source: what is left is the isolation."""

import sys
from pathlib import Path

from registry.conversion.worker import __main__ as worker

if __name__ == "__main__":
    worker.admit = lambda *_: None
    worker.main(Path(sys.argv[1]))
