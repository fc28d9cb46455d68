"""The images' command line: `python -m images build [IMAGE ...]`, `python -m images context FOLDER [WHEEL ...]`."""

import argparse
import sys
from pathlib import Path

from images.build import Built, build
from images.errors import ImageError
from images.places import Places
from images.recipes import PARTS, parts


def main() -> int:
    arguments = _parser().parse_args()
    places = Places.of_environment()
    try:
        if arguments.what == "context":
            parts(places, arguments.wheels)[0].write(arguments.folder)
            return 0
        recipes = parts(places)
        wanted = arguments.images or PARTS
        found = build(places, [recipe for recipe in recipes if recipe.target in wanted])
    except ImageError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    for image in found:
        print(image.archive)
    if not arguments.images:
        print(f"helm install … --values {_values(places, found)}", file=sys.stderr)
    return 0


def _values(places: Places, found: list[Built]) -> Path:
    """The chart's values that name these images."""
    path = places.cache / "values.yaml"
    lines = [f"{image.name.removeprefix('modelcanary-')}:\n  image: {image.reference}\n" for image in found]
    path.write_text("".join(lines))
    return path


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m images", description=__doc__)
    commands = parser.add_subparsers(dest="what", required=True)
    built = commands.add_parser("build", help="make archives of the images, and print where they are")
    built.add_argument("images", nargs="*", choices=[[], *PARTS], metavar="IMAGE", help="left out: all of them")
    context = commands.add_parser("context", help="write the folder that the Containerfile is built in")
    context.add_argument("folder", type=Path)
    context.add_argument(
        "wheels",
        type=Path,
        nargs="*",
        metavar="WHEEL",
        help="of the project, one for each processor; left out: built here",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
