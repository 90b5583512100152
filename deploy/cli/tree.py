"""`aerogram tree`: the published tree as files, where the store can be read."""

from pathlib import Path
from typing import Any

import click

from deploy import env
from deploy.cli.group import cli, console, offline_verb
from distribution.device_plane.state import DamagedTreeError
from distribution.tree_export import export_tree


@cli.group()
def tree() -> None:
    """What a CDN serves (docs/how-to/serve-from-a-cdn.md)."""


@tree.command()
@click.argument("destination", type=click.Path(file_okay=False, path_type=Path))
@offline_verb
def export(*, application: str, destination: Path, as_json: bool) -> Any:
    """Write the application's published files below DESTINATION, or bring them up to date. Reads BLOB_STORE_URL."""
    from deploy.published_tree import published_tree  # noqa: PLC0415 - loads what speaks to S3

    try:
        store = env.url("BLOB_STORE_URL", schemes=("file", "s3"))
        done = export_tree(published_tree(store), application, destination)
    except (env.EnvError, DamagedTreeError) as error:
        raise click.ClickException(str(error)) from error
    if not as_json:
        console.print(f"Revision {done.revision}: {done.written} files written, {done.size_bytes} bytes.")
    return {"revision": done.revision, "written": done.written, "size_bytes": done.size_bytes}
