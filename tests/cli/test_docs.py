"""The documentation names what exists: every reason, every command and option, and no file that is missing."""

import re
from pathlib import Path

import click
import pytest
import yaml

from modelcanary_cli.main import cli
from modelcanary_gate.parse import parse_resource
from modelcanary_gate.vocabulary import Reason

ROOT = Path(__file__).parents[2]
CONTEXT = click.Context(cli)
READ_BY_USERS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def commands(text: str) -> list[str]:
    """Command lines of `modelcanary` in a page's code blocks, continued lines joined."""
    blocks = re.findall(r"^```(?:sh|console|bash)\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    lines = [line.strip().removeprefix("$ ") for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    return [line for line in lines if re.match(r"(\.venv/bin/)?modelcanary ", line)]


def test_every_reason_is_explained_and_none_is_invented() -> None:
    page = (ROOT / "docs" / "reading-a-verdict.md").read_text()
    explained = re.findall(r"^\| `([A-Z]\w+)` \|", page, re.MULTILINE)
    assert sorted(explained) == sorted(Reason)


@pytest.mark.parametrize("page", READ_BY_USERS, ids=lambda page: page.name)
def test_commands_in_pages_exist(page: Path) -> None:
    for line in commands(page.read_text()):
        words = line.split()
        command = cli.get_command(CONTEXT, words[1])
        if words[1].startswith("-"):
            continue
        if isinstance(command, click.Group):
            command = command.get_command(CONTEXT, words[2])
        assert command is not None, f"{page.name}: {line}"
        known = {option for parameter in command.params for option in parameter.opts}
        for word in words[2:]:
            if word.startswith("-"):
                assert word.partition("=")[0] in known, f"{page.name}: {line}: {word}"


def test_the_readme_shows_each_command() -> None:
    shown = {line.split()[1] for line in commands((ROOT / "README.md").read_text())}
    assert set(cli.list_commands(CONTEXT)) <= shown


@pytest.mark.parametrize("page", READ_BY_USERS, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text()):
        if not target.startswith(("http://", "https://")):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_specifications_in_pages_are_good() -> None:
    found = [
        yaml.safe_load(block)
        for page in READ_BY_USERS
        for block in re.findall(r"^```yaml\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)
    ]
    resources = [document for document in found if document.get("kind") == "ModelCanary"]
    assert len(resources) >= 2
    for document in [*resources, yaml.safe_load((ROOT / "demo" / "canary.yaml").read_text())]:
        parse_resource(document, require_target="targetRef" in document["spec"])


def test_make_targets_in_pages_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for page in READ_BY_USERS:
        for target in re.findall(r"`make ([a-z-]+)`", page.read_text()):
            assert target in targets, f"{page.name}: make {target}"
