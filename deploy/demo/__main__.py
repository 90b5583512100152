"""`make demo`: tell the story against a `make run` in progress."""

import sys

from deploy.cli.client import ApiError
from deploy.demo.story import run

if __name__ == "__main__":
    try:
        run()
    except (ApiError, RuntimeError, TimeoutError, OSError) as error:
        print(f"The demonstration stopped: {error}", flush=True)
        sys.exit(1)
