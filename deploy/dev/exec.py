"""Run one command against the servers of the `make run` in progress: `python -m deploy.dev.exec manage.py shell`."""

import json
import os
import sys

from deploy import env
from deploy.dev.layout import CHECKOUT, Layout
from deploy.dev.run import environment_file


def main(arguments: list[str]) -> int:
    path = environment_file(Layout(env.folder("AEROGRAM_VAR_DIR", CHECKOUT / "var")))
    if not arguments:
        print("Usage: python -m deploy.dev.exec (-m MODULE | FILE.py) [ARGUMENT…]", file=sys.stderr)
        return 2
    if not path.exists():
        print("Aerogram is not running from this checkout. Start it with `make run` first.", file=sys.stderr)
        return 1
    variables = {**os.environ, **json.loads(path.read_text())}
    os.chdir(CHECKOUT)
    os.execve(sys.executable, [sys.executable, *arguments], variables)  # noqa: S606  no shell is wanted
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
