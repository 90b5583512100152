"""The command `aerogram` itself: its options, and what every verb does alike."""

import json
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.markup import escape

from deploy.cli.client import ApiError, ControlPlane, Unreachable
from registry.errors import DomainError

REFUSED, UNREACHABLE, TOO_LONG, NOT_CONVERTED = 1, 3, 4, 5
NO_TOKEN = click.UsageError("expected a token: --token, --token-file, AEROGRAM_TOKEN or AEROGRAM_TOKEN_FILE")
console = Console()
errors = Console(stderr=True)


@click.group()
@click.option("--url", envvar="AEROGRAM_WEB_URL", default="http://127.0.0.1:8000", show_default=True)
@click.option("--token", envvar="AEROGRAM_TOKEN", help="An API token.")
@click.option("--token-file", envvar="AEROGRAM_TOKEN_FILE", type=click.Path(path_type=Path), help="Or a file with it.")
@click.option("--application", "-a", envvar="AEROGRAM_APPLICATION", default="demo", show_default=True)
@click.option("--json", "as_json", is_flag=True, help="Print the server's answer as JSON.")
@click.pass_context
def cli(
    context: click.Context, *, url: str, token: str | None, token_file: Path | None, application: str, as_json: bool
) -> None:
    """Register models, watch their conversions, publish and roll back."""
    token = token or (token_file.read_text().strip() if token_file and token_file.is_file() else None)
    server = ControlPlane(url, token or "", application)
    context.call_on_close(server.close)
    context.obj = (server, as_json)


def verb(function: Callable[..., Any]) -> Callable[..., Any]:
    """Pass the server in, print the answer as JSON when asked to, and end with the exit code of what went wrong."""

    @wraps(function)
    @click.pass_obj
    def run(settings: tuple[ControlPlane, bool], /, **options: Any) -> None:
        server, as_json = settings
        if not server.has_token and not options.get("pure"):  # which asks no server, as `--help` does not
            raise NO_TOKEN
        try:
            answer = function(server, as_json=as_json, **options)
        except (ApiError, TimeoutError) as error:
            raise SystemExit(tell(error, as_json=as_json)) from error
        if as_json:
            click.echo(json.dumps(answer, indent=2))

    return run


def offline_verb(function: Callable[..., Any]) -> Callable[..., Any]:
    """The same for a verb that works on files: no server, the application by name."""

    @wraps(function)
    @click.pass_obj
    def run(settings: tuple[ControlPlane, bool], /, **options: Any) -> None:
        server, as_json = settings
        try:
            answer = function(application=server.application, as_json=as_json, **options)
        except (DomainError, OSError) as error:
            code = error.code if isinstance(error, DomainError) else "file"
            raise SystemExit(tell(ApiError(0, code, str(error)), as_json=as_json)) from error
        if as_json:
            click.echo(json.dumps(answer, indent=2, default=str))

    return run


def tell(error: ApiError | TimeoutError, *, as_json: bool) -> int:
    """Say on stderr what went wrong; returns the exit code."""
    code = error.code if isinstance(error, ApiError) else "timeout"
    if as_json:
        click.echo(json.dumps({"code": code, "detail": str(error)}), err=True)
    else:
        errors.print(f"[red]{escape(str(error))}[/red] ({code})")
    if isinstance(error, Unreachable):
        return UNREACHABLE
    return REFUSED if isinstance(error, ApiError) else TOO_LONG
