"""The layers point one way, and what a part declares is what it uses; read from the sources, nothing is run.

Each rule is a function from sources to violations, so that every rule is also seen to find one.
"""

import ast
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]
PARTS = ("gate", "sidecar", "ledger", "operator", "cli")
PACKAGES = {f"modelcanary_{part}": part for part in PARTS}
#: Which packages of ours each part may import, beside its own.
MAY_IMPORT = {
    "gate": set(),
    "sidecar": {"modelcanary_gate"},
    "ledger": {"modelcanary_gate"},
    "operator": {"modelcanary_gate"},
    "cli": set(PACKAGES),
}
#: The standard library's modules without I/O, clock, randomness or state of the process. One that is missing
#: here and is as pure may be added.
PURE = {
    *("__future__", "abc", "bisect", "collections", "copy", "dataclasses", "difflib", "enum", "fractions"),
    *("functools", "hashlib", "heapq", "itertools", "json", "math", "operator", "re", "statistics"),
    *("string", "struct", "textwrap", "types", "typing"),
}
IMPURE_CALLS = {"open", "print", "input", "breakpoint", "eval", "exec", "__import__"}
IMPURE_NUMPY = {"random", "load", "save", "savez", "savetxt", "loadtxt", "genfromtxt", "fromfile", "memmap"}


def sources(part: str) -> Iterator[tuple[str, str]]:
    """Path within the project and text of every module of a part."""
    for path in sorted((PROJECT / part / f"modelcanary_{part}").rglob("*.py")):
        yield str(path.relative_to(PROJECT)), path.read_text()


def imports(text: str) -> Iterator[tuple[int, str, tuple[str, ...]]]:
    """Line, module and imported names of every import, wherever in the module it stands."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name, ()) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: imports are absolute"
            yield node.lineno, node.module or "", tuple(alias.name for alias in node.names)


def layer_violations(part: str, text: str) -> list[str]:
    found = []
    own = f"modelcanary_{part}"
    for line, module, names in imports(text):
        top = module.split(".")[0]
        if top in PACKAGES and top != own and top not in MAY_IMPORT[part]:
            found.append(f"{line}: {part} imports {module}")
        private = [name for name in (*module.split("."), *names) if re.match(r"_[^_]", name)]
        if top != own and private:
            found.append(f"{line}: {private[0]} is private to {top}")
    return found


def purity_violations(text: str) -> list[str]:
    """What the gate may not do: anything but computing."""
    found = [
        f"{line}: imports {module}"
        for line, module, _ in imports(text)
        if module.split(".")[0] not in {*PURE, "numpy", "modelcanary_gate"}
    ]
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in IMPURE_CALLS:
            found.append(f"{node.lineno}: calls {node.func.id}")
        if (
            isinstance(node, ast.Attribute)
            and isinstance(node.value, ast.Name)
            and node.value.id in ("np", "numpy")
            and node.attr in IMPURE_NUMPY
        ):
            found.append(f"{node.lineno}: uses numpy.{node.attr}")
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("numpy"):
            found += [f"{node.lineno}: uses {a.name}" for a in node.names if a.name in IMPURE_NUMPY]
    return found


def environment_violations(name: str, text: str) -> list[str]:
    """The environment is read in settings.py, or handed to its reader by main.py; within functions only."""
    tree = ast.parse(text)
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    bodies = [statement for node in ast.walk(tree) if isinstance(node, functions) for statement in node.body]
    inside = {id(node) for statement in bodies for node in ast.walk(statement)}
    handed_on = {
        id(argument)
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and "settings" in node.func.id
        for argument in node.args
    }
    found = []
    for node in ast.walk(tree):
        words: set[str] = set()
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "os":
            words = {node.attr}
        elif isinstance(node, ast.ImportFrom) and node.module == "os":
            words = {alias.name for alias in node.names}
        allowed = {"settings.py": inside, "main.py": inside & handed_on}.get(Path(name).name, set())
        if words & {"environ", "environb", "getenv", "getenvb"} and id(node) not in allowed:
            found.append(f"{name}:{node.lineno}: reads the environment")
    return found


@pytest.mark.parametrize("part", PARTS)
def test_dependencies_point_one_way(part: str) -> None:
    assert [f"{name}:{found}" for name, text in sources(part) for found in layer_violations(part, text)] == []


def test_the_gate_only_computes() -> None:
    modules = list(sources("gate"))
    assert modules
    assert [f"{name}:{found}" for name, text in modules for found in purity_violations(text)] == []


@pytest.mark.parametrize("part", PARTS)
def test_the_environment_is_read_once_in_settings(part: str) -> None:
    assert [found for name, text in sources(part) for found in environment_violations(name, text)] == []


@pytest.mark.parametrize(
    ("part", "text", "words"),
    [
        ("gate", "import modelcanary_sidecar", "gate imports modelcanary_sidecar"),
        ("sidecar", "def f():\n    from modelcanary_ledger.store import x", "sidecar imports modelcanary_ledger.store"),
        ("ledger", "from modelcanary_cli import main", "ledger imports modelcanary_cli"),
        ("cli", "from modelcanary_gate._secret import x", "_secret is private to modelcanary_gate"),
        ("sidecar", "from modelcanary_gate.losses import _capped", "_capped is private to modelcanary_gate"),
        ("ledger", "import starlette._utils", "_utils is private to starlette"),
    ],
)
def test_a_layer_violation_is_found(part: str, text: str, words: str) -> None:
    assert [words in found for found in layer_violations(part, text)] == [True]


@pytest.mark.parametrize(
    "text",
    [
        *("import time", "from pathlib import Path", "import scipy", "import numpy as np\nnp.random.rand()"),
        *("from numpy import random", "print(1)", "def f(p):\n    return open(p)", "import urllib.request"),
    ],
)
def test_impurity_is_found(text: str) -> None:
    assert len(purity_violations(text)) == 1


@pytest.mark.parametrize(
    ("name", "text", "count"),
    [
        ("main.py", "import os\ndef f():\n    return os.environ['A']", 1),
        ("main.py", "from os import getenv", 1),
        ("main.py", "import os\ndef f():\n    return read_settings([], os.environ)", 0),
        ("main.py", "import os\nSETTINGS = read_settings([], os.environ)", 1),
        ("serve.py", "import os\ndef f():\n    return read_settings([], os.environ)", 1),
        ("settings.py", "from os import environ", 1),
        ("settings.py", "import os\nA = os.getenv('A')", 1),
        ("settings.py", "import os\ndef f(a=os.environ):\n    return a", 1),
        ("settings.py", "import os\ndef f():\n    return os.environ['A']", 0),
    ],
)
def test_reading_the_environment_is_found(name: str, text: str, count: int) -> None:
    assert len(environment_violations(name, text)) == count


def where_operator_comes_from(root: Path) -> Path:
    """The file of `import operator` for a Python that was started in a project's root."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(root), str(root / "operator")])}
    run = subprocess.run(
        [sys.executable, "-c", "import operator; print(operator.__file__); operator.itemgetter"],
        cwd=root,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return Path(run.stdout.strip() or "failed")


def test_operator_is_still_pythons_own(tmp_path: Path) -> None:
    own = Path(os.__file__).with_name("operator.py")
    assert where_operator_comes_from(PROJECT) == own
    assert list((PROJECT / "operator").glob("*.py")) == [], "operator/ holds a package, never modules"
    # The same look finds a project that shadows it.
    (tmp_path / "operator").mkdir()
    (tmp_path / "operator" / "__init__.py").write_text("from _operator import *\n")
    assert where_operator_comes_from(tmp_path) != own


def declared() -> dict[str, set[str]]:
    """Distributions by part: the gate's are those that every part has."""
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    names = {"gate": project["dependencies"], **project["optional-dependencies"]}
    return {part: {normalised(requirement) for requirement in lines} for part, lines in names.items()}


def normalised(requirement: str) -> str:
    if requirement.startswith("modelcanary["):
        return requirement
    return re.split(r"[^A-Za-z0-9._-]", requirement)[0].lower().replace("_", "-")


def available(part: str, extras: dict[str, set[str]]) -> set[str]:
    """A part's distributions with those of the extras that its own extra names."""
    found = set(extras["gate"])
    for name in extras.get(part, set()):
        if name.startswith("modelcanary["):
            for other in name.removeprefix("modelcanary[").removesuffix("]").split(","):
                found |= available(other, extras)
        else:
            found.add(name)
    return found


@cache
def installed() -> Mapping[str, list[str]]:
    return packages_distributions()


def distributions(module: str) -> set[str]:
    return {normalised(name) for name in installed().get(module, [])}


def used(part: str) -> dict[str, str]:
    """Third-party modules that a part imports, each with the first place; read from the sources."""
    found: dict[str, str] = {}
    for name, text in sources(part):
        for line, module, _ in imports(text):
            top = module.split(".")[0]
            if top not in sys.stdlib_module_names and top not in PACKAGES:
                found.setdefault(top, f"{name}:{line}")
    return found


def named(part: str) -> set[str]:
    """Modules that a part names to a library that loads them, as `loop="uvloop"` does."""
    return {
        node.value.value
        for _, text in sources(part)
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.keyword) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
    }


@pytest.mark.parametrize("part", PARTS)
def test_what_is_imported_is_declared(part: str) -> None:
    allowed = available(part, declared())
    missing = {module: place for module, place in used(part).items() if not distributions(module) & allowed}
    assert missing == {}, f"declare them in the extra of {part}"


@pytest.mark.parametrize("part", sorted(declared()))
def test_what_is_declared_is_imported(part: str) -> None:
    in_use = {name for module in {*used(part), *named(part)} for name in distributions(module)}
    own = {name for name in declared()[part] if not name.startswith("modelcanary[")}
    assert own - in_use == set(), f"remove them from the extra of {part}, or use them"


def test_no_part_of_the_data_plane_has_a_client_of_kubernetes() -> None:
    for part in ("gate", "sidecar", "ledger"):
        assert not available(part, declared()) & {"kopf", "kubernetes"}


def test_extras_are_read_as_they_are_written() -> None:
    assert normalised("prometheus_client>=0.21") == "prometheus-client"
    extras = {"gate": {"numpy"}, "sidecar": {"httpx"}, "cli": {"modelcanary[sidecar]", "click"}}
    assert available("cli", extras) == {"numpy", "httpx", "click"}
    assert distributions("yaml") == {"pyyaml"}
