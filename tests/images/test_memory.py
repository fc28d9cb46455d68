"""What the sidecar's processes take together when nobody asks, as they are in its image."""

import json
import os
import subprocess
import tarfile
import time
from pathlib import Path

import pytest
from images.build import build
from images.places import Places
from images.recipes import parts

pytestmark = [pytest.mark.node, pytest.mark.timeout(1800, func_only=True)]
MOST_KIB = 48 * 1024  # of the pages in memory, those that are shared counted in parts
#: All of 127.0.0.1, ports of the system's choice; nobody is at the model's and the ledger's.
ARGUMENTS = (
    *("--listen=127.0.0.1:0", "--admin=127.0.0.1:0", "--upstream=http://127.0.0.1:1", "--ledger=http://127.0.0.1:1"),
    *("--namespace=team", "--name=model", "--identity=pod"),
)


def unpack(archive: Path, into: Path) -> None:
    with tarfile.open(archive) as image:
        (manifest,) = json.load(image.extractfile("manifest.json"))  # type: ignore[arg-type]
        for layer in manifest["Layers"]:
            with tarfile.open(fileobj=image.extractfile(layer)) as files:
                files.extractall(into, filter="tar")


def children(process: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{process}/task/{process}/children").read_text().split()]


def kib(process: int) -> int:
    lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
    (found,) = [int(line.split()[1]) for line in lines if line.startswith("Pss:")]
    return found


@pytest.mark.skipif(os.geteuid() != 0, reason="it changes its root")
def test_the_sidecar_takes_48_mib_at_most(tmp_path: Path) -> None:
    places = Places.of_environment()
    (built,) = build(places, [recipe for recipe in parts(places) if recipe.target == "sidecar"])
    system, log = tmp_path / "system", tmp_path / "log"
    system.mkdir()
    unpack(built.archive, system)
    system.chmod(0o755)
    # With what every runtime mounts, in a namespace that ends with it.
    mounts = (
        'mount -t proc proc "$0/proc" && mount --rbind /dev "$0/dev" && exec chroot --userspec=65532:65532 "$0" "$@"'
    )
    namespace = ["unshare", "--mount", "--propagation=private", "sh", "-c", mounts]
    command = [*namespace, str(system), "/opt/modelcanary/bin/modelcanary-sidecar"]
    with log.open("wb") as output, subprocess.Popen([*command, *ARGUMENTS], stdout=output, stderr=output) as started:
        try:
            deadline = time.monotonic() + 60
            while "the ledger does not answer" not in log.read_text():  # the scorer has loaded all that it needs
                assert time.monotonic() < deadline and started.poll() is None, log.read_text()
                time.sleep(0.1)
            processes = [started.pid, *children(started.pid)]
            assert len(processes) == 3
            # It comes with the first large answer: sidecars of few classes do without.
            assert not any("numpy" in Path(f"/proc/{process}/maps").read_text() for process in processes)
            taken = {process: kib(process) for process in processes}
        finally:
            started.terminate()
            started.wait(60)
    assert sum(taken.values()) <= MOST_KIB, taken
