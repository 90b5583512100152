"""`python -m tests.chaos.tell_story`: the story as it happens, its timeline, and whether all went as it must."""

import sys
from collections.abc import Callable

import click

from deploy.dev import services
from tests.chaos.story import Story
from tests.chaos.story_checks import CHECKS
from tests.chaos.story_stage import told_story


def main() -> None:
    with services.throwaway_folder() as folder, told_story(folder, say=click.echo) as story:
        wrong = [check.__name__ for check in CHECKS if not _holds(check, story)]
    sys.exit(f"not as it must be: {', '.join(wrong)}" if wrong else 0)


def _holds(check: Callable[[Story], None], story: Story) -> bool:
    """Says which, one line for each promise."""
    try:
        check(story)
    except AssertionError as error:
        click.echo(f"no   {check.__name__.replace('_', ' ')}: {error!r}")
        return False
    click.echo(f"yes  {check.__name__.replace('_', ' ')}")
    return True


if __name__ == "__main__":
    main()
