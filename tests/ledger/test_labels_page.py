"""docs/labels.md, run: each of its commands against a ledger, in the page's order, with the answer that it shows."""

import contextlib
import json
import math
import re
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import msgspec

from modelcanary_gate.protocol import Answer, PairBatch
from modelcanary_gate.vocabulary import Outcome

PAGE = Path(__file__).parents[2] / "docs" / "labels.md"
ADDRESS = "http://127.0.0.1:8081"
EXAMPLE = re.compile(r"^```sh\n(curl .*?)^```\n\n```json\n(.*?)^```", re.MULTILINE | re.DOTALL)
#: The instances that the page's labels are for, of which one is not there.
INSTANCES = [("order-1", 0), ("order-1", 1), *((f"order-{number}", 0) for number in range(3, 9))]


@contextlib.contextmanager
def ledger(directory: Path) -> Iterator[str]:
    with subprocess.Popen(
        [sys.executable, "-m", "modelcanary_ledger", "--listen", "127.0.0.1:0", "--state", str(directory)],
        stdout=subprocess.PIPE,
        text=True,
    ) as started:
        try:
            assert started.stdout is not None
            yield started.stdout.readline().split()[-1]
        finally:
            started.kill()


def test_every_command_of_the_page_does_what_it_says(tmp_path: Path, make_pair: Callable[..., object]) -> None:
    examples = EXAMPLE.findall(PAGE.read_text())
    assert len(examples) >= 8
    with ledger(tmp_path / "state") as url, httpx.Client(base_url=url) as client:
        run = {"version": 1, "run": "r1", "share": 1.0, "candidate": "http://c"}
        spec = {"model": {"classes": ["no", "yes"]}}
        client.put(
            "/v1/runs/ns/m/instructions", json={"epoch": 1, "instructions": run, "spec": spec}
        ).raise_for_status()
        even = Answer(Outcome.OK, 0.01, struct.pack("<2f", math.log(0.5), math.log(0.5)))
        pairs = [make_pair(id, time.time(), index, baseline=even, candidate=even) for id, index in INSTANCES]
        body = msgspec.msgpack.encode(PairBatch("b", "s", "r1", pairs))  # type: ignore[arg-type]
        client.post(
            "/v1/runs/ns/m/pairs", content=body, headers={"Content-Type": "application/vnd.msgpack"}
        ).raise_for_status()
        for command, answer in examples:
            said = subprocess.run(
                ["bash", "-c", command.replace(ADDRESS, url).replace("curl ", "curl -sS --max-time 20 ", 1)],
                capture_output=True,
                text=True,
                timeout=60,
                check=True,
            ).stdout
            assert json.loads(said) == json.loads(answer), command
