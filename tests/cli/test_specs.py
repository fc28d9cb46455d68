"""Specifications from YAML: what is wrong is named by its line or its field."""

from pathlib import Path

import pytest

from modelcanary_cli.errors import InputError
from modelcanary_cli.specs import load_spec
from modelcanary_gate.spec import Margin

HEAD = "apiVersion: modelcanary.io/v1alpha1\nkind: ModelCanary\nmetadata: {name: pets}\n"


def write(folder: Path, text: str) -> Path:
    path = folder / "canary.yaml"
    path.write_text(text)
    return path


def refusal(folder: Path, text: str) -> str:
    with pytest.raises(InputError) as caught:
        load_spec(write(folder, text))
    assert "\n" not in str(caught.value)
    return str(caught.value).removeprefix(f"{folder / 'canary.yaml'}: ")


def test_reads_a_resource(tmp_path: Path) -> None:
    loaded = load_spec(write(tmp_path, HEAD + "spec:\n  model: {classes: [a, b]}\n  analysis: {margin: 3%}\n"))
    assert (loaded.namespace, loaded.name) == ("default", "pets")
    assert loaded.spec.analysis.margin == Margin(relative=0.03)
    assert loaded.written == {"model": {"classes": ["a", "b"]}, "analysis": {"margin": "3%"}}


def test_json_is_yaml(tmp_path: Path) -> None:
    text = (
        '{"apiVersion": "modelcanary.io/v1alpha1", "kind": "ModelCanary", "metadata": {"name": "x"},'
        ' "spec": {"model": {"classes": ["a", "b"]}}}'
    )
    assert load_spec(write(tmp_path, text)).spec.model.classes == ("a", "b")


def test_classes_are_needed_unless_the_caller_can_do_without(tmp_path: Path) -> None:
    path = write(tmp_path, HEAD + "spec: {}\n")
    with pytest.raises(InputError, match=r"spec\.model"):
        load_spec(path)
    assert load_spec(path, require_classes=False).spec.model.classes == ()


def test_merged_keys_give_way_and_are_no_repetition(tmp_path: Path) -> None:
    text = HEAD + (
        "spec:\n  model: {classes: [a, b]}\n  guards:\n"
        '  - &base {name: one, type: errorRate, max: "+1%"}\n  - {<<: *base, name: two}\n'
    )
    assert [guard.name for guard in load_spec(write(tmp_path, text)).spec.guards] == ["one", "two"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (HEAD + "spec:\n  model: {classes: [a, b], colour: red}\n", "spec.model.colour: unknown field"),
        (HEAD + "spec:\n  model: {classes: [a, b]}\n  anlysis: {}\n", "spec.anlysis: unknown field"),
        (HEAD + "spec:\n  model: {classes: [a]}\n", "spec.model.classes"),
        (HEAD + "spec:\n  model: {classes: [a, b]}\n  analysis: {loss: {classWeights: [1]}}\n", "classWeights: has 1"),
        (HEAD + "spec:\n  model: {classes: [a, b]}\nspec: {}\n", "line 6, column 1: the key 'spec' comes twice"),
        (HEAD + "spec: [\n", "line 5"),
        (HEAD + "spec:\n  model: {classes: [a, b]}\n  sidecar: 2026-13-45\n", "is not YAML"),
        ("- 1\n", "holds no mapping"),
        ("", "holds no mapping"),
        ("? [1, 2]\n: 3\n", "line 1, column 3: a key is a list or mapping"),
        ("a: !!python/object/apply:os.system [id]\n", "line 1, column 4"),
        ("a: \x00\n", "is not YAML"),
        ("[" * 5000, "is not YAML"),
    ],
)
def test_what_is_wrong_is_named_with_a_remedy(tmp_path: Path, text: str, said: str) -> None:
    message = refusal(tmp_path, text)
    assert message.startswith(said) or said in message
    assert ";" in message


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    for place in (tmp_path / "missing.yaml", tmp_path):
        with pytest.raises(InputError, match="cannot be read"):
            load_spec(place)
