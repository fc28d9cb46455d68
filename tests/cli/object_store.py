"""An S3 server of the tests' own (moto, as a process), and what the AWS clients read to reach it."""

import contextlib
import re
import subprocess
import sys
from collections.abc import Iterator

import httpx


@contextlib.contextmanager
def object_store(bucket: str, objects: dict[str, bytes]) -> Iterator[dict[str, str]]:
    """Holds `objects` by key; yields the environment."""
    command = [sys.executable, "-m", "moto.server", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as started:
        try:
            assert started.stderr is not None
            found = next(filter(None, (re.search(r"http://127\.0\.0\.1:\d+", line) for line in started.stderr)))
            with httpx.Client(base_url=found[0], timeout=60) as client:
                client.put(f"/{bucket}").raise_for_status()
                for key, content in objects.items():
                    client.put(f"/{bucket}/{key}", content=content).raise_for_status()
            yield {
                "AWS_ENDPOINT_URL": found[0],
                "AWS_ACCESS_KEY_ID": "tests",
                "AWS_SECRET_ACCESS_KEY": "tests",
                "AWS_REGION": "us-east-1",
                "AWS_EC2_METADATA_DISABLED": "true",
            }
        finally:
            started.kill()
