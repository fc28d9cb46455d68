"""The release workflow: it may do little, runs what is pinned, and its shell is sound."""

import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from images.recipes import PARTS

PROJECT = Path(__file__).parents[2]
WORKFLOW: dict[Any, Any] = yaml.safe_load((PROJECT / ".github/workflows/release.yaml").read_text())
STEPS = [(job, step) for job, each in WORKFLOW["jobs"].items() for step in each["steps"]]


def test_project_and_chart_have_one_version() -> None:
    chart = yaml.safe_load((PROJECT / "charts/modelcanary/Chart.yaml").read_text())
    with (PROJECT / "pyproject.toml").open("rb") as file:
        version = tomllib.load(file)["project"]["version"]
    assert chart["version"] == chart["appVersion"] == version


def test_it_begins_with_a_tag_and_tests_come_first() -> None:
    assert WORKFLOW[True] == {"push": {"tags": ["v*"]}}  # YAML 1.1 reads `on` so
    needs = {name: job.get("needs") for name, job in WORKFLOW["jobs"].items()}
    assert needs == {"test": None, "wheels": "test", "publish": ["test", "wheels"], "files": ["wheels", "publish"]}


def test_rights_are_given_to_the_jobs_that_need_them() -> None:
    assert WORKFLOW["permissions"] == {}
    for name in ("test", "wheels"):
        assert WORKFLOW["jobs"][name]["permissions"] == {"contents": "read"}
    assert WORKFLOW["jobs"]["files"]["permissions"] == {"contents": "write", "id-token": "write"}
    publish = WORKFLOW["jobs"]["publish"]["permissions"]
    assert publish == {"contents": "read", "packages": "write", "id-token": "write"}


def test_what_others_wrote_is_pinned() -> None:
    for _, step in STEPS:
        if "uses" in step:
            assert re.fullmatch(r"[\w.-]+/[\w.-]+@[0-9a-f]{40}", step["uses"]), step["uses"]
        if "checkout" in step.get("uses", ""):
            assert step["with"]["persist-credentials"] is False
    for name in ("COSIGN", "SYFT"):
        assert re.search(r"@v\d+\.\d+\.\d+$", WORKFLOW["env"][name])


def test_every_image_is_published() -> None:
    (step,) = [step["run"] for _, step in STEPS if step.get("name", "").startswith("Build, push")]
    assert f"for part in {' '.join(PARTS)}; do" in step


def test_wheels_are_made_for_the_processors_that_images_are_made_for() -> None:
    assert WORKFLOW["jobs"]["wheels"]["strategy"]["matrix"]["runner"] == ["ubuntu-24.04", "ubuntu-24.04-arm"]
    (step,) = [step["run"] for _, step in STEPS if step.get("name", "").startswith("The folder that images")]
    assert "dist/*_x86_64.whl dist/*_aarch64.whl" in step
    (step,) = [step["run"] for _, step in STEPS if step.get("name", "").startswith("Build, push")]
    assert "--platform linux/amd64,linux/arm64" in step


@pytest.mark.parametrize("script", [step["run"] for _, step in STEPS if "run" in step])
def test_its_shell_is_sound_and_takes_nothing_from_expressions(script: str) -> None:
    assert "${{" not in script, "an expression in a script is code that others can write"
    done = subprocess.run(["bash", "-n"], input=script, capture_output=True, text=True, timeout=20, check=False)
    assert done.returncode == 0, done.stderr
