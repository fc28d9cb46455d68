"""What a sidecar loads: every pod of every user pays for it in memory, in processes that may never use it."""

import subprocess
import sys

#: Of the standard library and of packages; each of them takes from half a MiB to twelve.
HEAVY = {
    *("certifi", "email", "h11", "http.client", "http.server", "httpcore", "httpx", "idna", "multiprocessing"),
    *("numpy", "prometheus_client", "sqlite3", "unittest", "urllib.request", "xml", "yaml"),
}


def test_a_sidecar_loads_nothing_large_until_it_is_needed() -> None:
    """numpy is, for answers of many classes; the others are not at all."""
    loaded = subprocess.run(
        [sys.executable, "-c", "import sys, modelcanary_sidecar.main; print(*sys.modules)"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout.split()
    assert "modelcanary_sidecar.scorer" in loaded  # before the processes are made, which share it
    assert not HEAVY & set(loaded)
