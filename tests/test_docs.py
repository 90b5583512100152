"""Whoever adds a setting, a reason, a stage, an error code, an endpoint or a verb documents it, or this fails."""

import re
import subprocess
import sys
from pathlib import Path

import click
import pytest
from django.urls import URLPattern, get_resolver

from deploy.cli.main import cli
from distribution.decision import Reason
from distribution.device_plane.events import OUTCOMES, STAGES
from registry.conversion.recipes import RECIPES
from registry.errors import DomainError

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
DOCUMENTS = [*DOCS.rglob("*.md"), ROOT / "README.md"]
OPERATIONS = (DOCS / "operations.md").read_text()
PROTOCOL = (DOCS / "protocol.md").read_text()
REST = (DOCS / "rest.md").read_text()
CONVERSION = (DOCS / "conversion.md").read_text()


def sources(*folders):
    return "\n".join(path.read_text() for folder in folders for path in (ROOT / folder).rglob("*.py"))


def subclasses(family):
    for child in family.__subclasses__():
        yield child
        yield from subclasses(child)


def rest_paths(patterns=None, prefix=""):
    for pattern in patterns or get_resolver("deploy.urls").url_patterns:
        path = prefix + str(pattern.pattern)
        if isinstance(pattern, URLPattern):
            yield path
        elif not path.startswith("admin"):
            yield from rest_paths(pattern.url_patterns, path)


SETTINGS = sorted(set(re.findall(r'env\.\w+\(\s*"([A-Z_]+)"', sources("deploy"))))
PLANE_CODES = sorted(
    set(
        re.findall(
            r'(?:not_found|unavailable|Problem)\(\s*(?:\d+,\s*)?"([a-z_]+)"', sources("distribution/device_plane")
        )
    )
)
ENDPOINTS = sorted(path for path in set(rest_paths()) if path.startswith("api/"))


def test_the_lists_are_not_empty():
    assert min(map(len, (SETTINGS, PLANE_CODES, ENDPOINTS))) > 10


@pytest.mark.parametrize("name", SETTINGS)
def test_settings(name):
    assert f"`{name}`" in OPERATIONS


@pytest.mark.parametrize("word", [*Reason, *STAGES, *OUTCOMES, *PLANE_CODES])
def test_words_of_the_protocol(word):
    assert f"`{word}`" in PROTOCOL


@pytest.mark.parametrize("code", sorted({error.code for error in subclasses(DomainError)}))
def test_error_codes(code):
    assert f"`{code}`" in REST


@pytest.mark.parametrize("path", ENDPOINTS)
def test_endpoints(path):
    documented = re.sub(r"<\w+:(\w+)>", r"{\1}", path).removeprefix("api/v1")
    assert f"{documented}`" in REST or f"{documented}?" in REST


@pytest.mark.parametrize("verb", sorted(cli.commands))
def test_verbs_of_the_command_line(verb):
    assert f"`{verb}`" in REST


def test_every_module_of_the_command_line_is_part_of_it():
    """A module that nobody imports leaves its verbs out without a word."""
    modules = {f"deploy.cli.{path.stem}" for path in (ROOT / "deploy/cli").glob("*.py")} - {"deploy.cli.__init__"}
    script = "import sys, deploy.cli.main; print(*(name for name in sys.modules if name.startswith('deploy.cli.')))"
    told = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True, cwd=ROOT)
    assert modules == set(told.stdout.split())


def test_documents_name_verbs_that_there_are():
    named = re.compile(r"(?:^|[`$(/ ])aerogram (?:--json )?([a-z][a-z-]+)(?: ([a-z][a-z-]+))?(?=[\s`|:])", re.MULTILINE)
    found = [(document, *said) for document in DOCUMENTS for said in named.findall(document.read_text())]
    assert len(found) > 100
    for document, verb, below in found:
        command = cli.commands.get(verb)
        assert command is not None, f"{document.name}: aerogram {verb}"
        if isinstance(command, click.Group) and below:
            assert below in command.commands, f"{document.name}: aerogram {verb} {below}"


@pytest.mark.parametrize("recipe", sorted(RECIPES))
def test_recipes(recipe):
    assert recipe in CONVERSION


def test_no_document_names_a_missing_file():
    for document in DOCUMENTS:
        for link in re.findall(r"\]\((?!http)([^)#]+)", document.read_text()):
            assert (document.parent / link).exists(), f"{document.name}: {link}"
