from pathlib import Path

import pytest

from modelcanary_cli.errors import InputError
from modelcanary_cli.preflight import check_spec
from modelcanary_cli.specs import load_spec

HEAD = "apiVersion: modelcanary.io/v1alpha1\nkind: ModelCanary\nmetadata: {name: pets}\nspec:\n"


@pytest.mark.parametrize(
    ("pointer", "says"),
    [
        ("jmespath:a[", "spec.model.pointer: 'a[' is no JMESPath expression"),
        ("jmespath:latest(a)", "Unknown function: latest()"),
        ("/a~2", "spec.model.pointer: a '~'"),
    ],
)
def test_what_only_the_scorer_can_tell_is_told_before_the_run(tmp_path: Path, pointer: str, says: str) -> None:
    path = tmp_path / "canary.yaml"
    path.write_text(f"{HEAD}  model: {{classes: [a, b], protocol: custom, pointer: '{pointer}'}}\n")
    with pytest.raises(InputError) as caught:
        check_spec(load_spec(path), {})
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_good_expression_passes(tmp_path: Path) -> None:
    path = tmp_path / "canary.yaml"
    path.write_text(f"{HEAD}  model: {{classes: [a, b], protocol: custom, pointer: 'jmespath:a[*].b'}}\n")
    assert check_spec(load_spec(path), {}) == []
