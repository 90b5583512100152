#!/usr/bin/env python
"""Django's command line for Aerogram."""

import os
import sys


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "deploy.settings")
    from django.core.management import execute_from_command_line

    import deploy.celery  # noqa: F401 - shared tasks bind to this app; without it a command would enqueue nowhere

    execute_from_command_line(sys.argv)


if __name__ == "__main__":
    main()
