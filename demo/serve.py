"""`python -m demo.serve`: what `make demo-servers` runs. Two real models, to try `modelcanary run` on by hand.

They serve until Ctrl-C; what they are trained on and write is in `demo-out/servers`.
"""

import json
import shlex
import signal
import sys
import threading
from contextlib import ExitStack
from pathlib import Path

from demo.environments import KSERVE, MLSERVER
from demo.errors import DemoError
from demo.models import trained
from demo.serving import INFER, kserve, mlserver


def serve(out: Path) -> None:
    """Returns when it is interrupted. Raises DemoError when a server does not start."""
    over = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: over.set())
    baseline_python, candidate_python = MLSERVER.installed(print), KSERVE.installed(print)
    digits = trained(candidate_python, print)
    with ExitStack() as servers:
        baseline = mlserver(baseline_python, digits.model("baseline"), out / "baseline")
        servers.enter_context(baseline.process)
        candidate = kserve(candidate_python, digits.model("better"), out / "candidate")
        servers.enter_context(candidate.process)
        row = [float(value) for value in digits.rows[0]]
        body = {"inputs": [{"name": "x", "shape": [1, len(row)], "datatype": "FP64", "data": row}]}
        request = out / "request.json"
        request.write_text(json.dumps(body))
        print(
            f"""
Two models serve until Ctrl-C. In other terminals:

modelcanary run --spec demo/canary.yaml \\
  --baseline {baseline.url} --candidate {candidate.url} \\
  --listen 127.0.0.1:8080 --feedback 127.0.0.1:8081 --state ./state

curl -H 'X-Request-Id: order-1' -H 'Content-Type: application/json' \\
  -d @{shlex.quote(str(request.relative_to(Path.cwd()) if request.is_relative_to(Path.cwd()) else request))} \\
  http://127.0.0.1:8080{INFER}

curl http://127.0.0.1:8081/v1/feedback -d '{{"id": "order-1", "label": "{digits.labels[0]}"}}'
""",
            flush=True,
        )
        over.wait()


def main() -> int:
    out = Path("demo-out/servers").resolve()
    out.mkdir(parents=True, exist_ok=True)
    try:
        serve(out)
    except DemoError as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
