"""Options that several subcommands share, and the specification that they make together.

Called by `evaluate` and `replay`. Knows click and the specification; nothing of data.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import click

from modelcanary_cli.errors import InputError
from modelcanary_cli.specs import LoadedSpec, load_spec
from modelcanary_gate.spec import Model, Spec, Task

PATH = click.Path(path_type=Path)
F = TypeVar("F", bound=Callable[..., Any])


def spec_option(function: F) -> F:
    return click.option(
        "--spec", "spec_path", type=PATH, metavar="FILE", help="A ModelCanary as YAML; without it, the defaults."
    )(function)


def classes_option(function: F) -> F:
    return click.option(
        "--classes", metavar="A,B,C", help="The classes in the order of the lists, where no specification says it."
    )(function)


def record_options(function: F) -> F:
    function = click.option("--record", type=PATH, metavar="FILE", help="Write the decision record (JSON).")(function)
    return click.option("--report", type=PATH, metavar="FILE", help="Write the report (one HTML file).")(function)


def chosen_spec(path: Path | None, classes: str | None) -> tuple[Spec, LoadedSpec | None]:
    """The specification that was asked for, with the classes that were given."""
    loaded = None if path is None else load_spec(path, require_classes=False)
    spec = Spec(model=Model()) if loaded is None else loaded.spec
    if classes is None:
        return spec, loaded
    names = tuple(name.strip() for name in classes.split(","))
    if len(names) < 2 or not all(names) or len(set(names)) < len(names):
        raise InputError("--classes", f"{classes!r} is no list of classes", "give two or more different names: cat,dog")
    if spec.model.classes and spec.model.classes != names:
        raise InputError("--classes", f"{path} already gives other classes", "leave the option out")
    task = Task.MULTICLASS if spec.model.task is Task.BINARY and len(names) > 2 else spec.model.task
    return replace(spec, model=replace(spec.model, classes=names, task=task)), loaded
