"""docs/protocols.md as the tests run it: each server's commands, and how their answers are to be read."""

import argparse
import json
import re
import shlex
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import yaml
from numpy.typing import NDArray
from tests.servers.asking import ask, v1, v2, v2_binary

from modelcanary_gate.parse import parse_spec, to_reading
from modelcanary_gate.protocol import ModelReading
from modelcanary_sidecar.capture import LiveAnswer

PAGE = Path(__file__).parents[2] / "docs" / "protocols.md"
ADDRESS = "http://127.0.0.1:8080"


@dataclass(frozen=True, slots=True)
class Example:
    command: str
    reading: ModelReading


def examples(server: str) -> Iterator[Example]:
    """The commands under the server's heading, each with the specification above it."""
    section = re.search(rf"^## {server}.*?$(.*?)(?=^## |\Z)", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    assert section is not None, server
    reading = None
    for kind, text in re.findall(r"^```(yaml|sh)\n(.*?)^```", section.group(1), re.MULTILINE | re.DOTALL):
        if kind == "yaml":
            reading = to_reading(parse_spec(yaml.safe_load(text), require_target=False))
        else:
            assert reading is not None, text
            yield Example(text, reading)


def write_requests(folder: Path, rows: NDArray[np.float32]) -> None:
    """The files that the page names."""
    files = {
        "v1.json": v1(rows),
        "v2.json": v2(rows),
        "rows.json": {"rows": rows.tolist()},
        "mlflow.json": {"inputs": rows.tolist()},
        "seldon.json": {"meta": {"puid": "req-42"}, "data": {"ndarray": rows.tolist()}},
    }
    for name, content in files.items():
        (folder / name).write_text(json.dumps(content))
    (folder / "v2.bin").write_bytes(v2_binary(rows)[0])


def run(example: Example, url: str, folder: Path) -> LiveAnswer:
    """The answer to the user's request; where the specification patches the mirrored copy, the answer to that."""
    if example.reading.requestPatch is not None:
        return _mirrored(example, url, folder)
    command = example.command.replace(ADDRESS, url)
    quiet = "curl --silent --show-error --max-time 60 --dump-header head.txt --output body.bin "
    subprocess.run(["bash", "-c", command.replace("curl ", quiet, 1)], cwd=folder, check=True, timeout=90)
    status, _, headers = (folder / "head.txt").read_bytes().partition(b"\r\n")
    return LiveAnswer(None, int(status.split()[1]), 0.1, headers, (folder / "body.bin").read_bytes())


def _mirrored(example: Example, url: str, folder: Path) -> LiveAnswer:
    parser = argparse.ArgumentParser()
    parser.add_argument("url")
    parser.add_argument("-H", action="append", dest="headers")
    parser.add_argument("-d", "--data-binary", dest="file")
    curl = parser.parse_args(shlex.split(example.command.replace("\\\n", " "))[1:])
    body = (folder / curl.file.removeprefix("@")).read_bytes()
    headers = "".join(f"{line}\r\n" for line in curl.headers)
    return ask(url, urlsplit(curl.url).path, body, headers, example.reading.requestPatch)
