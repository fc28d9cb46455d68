"""`modelcanary run`: judges a candidate on live traffic with everything on one machine.

Reads the command line and checks what can be checked; `session` does the rest.
"""

import signal
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from types import FrameType

import click

from modelcanary_cli import preflight
from modelcanary_cli.addresses import Ports, read_endpoints, read_url
from modelcanary_cli.errors import ExitCode
from modelcanary_cli.progress import progress
from modelcanary_cli.session import Options, Session
from modelcanary_cli.specs import load_spec
from modelcanary_cli.state import StateFolder
from modelcanary_cli.supervise import Interrupted


@click.command()
@click.option("--spec", required=True, type=click.Path(path_type=Path), help="ModelCanary resource, YAML.")
@click.option("--baseline", required=True, metavar="URL", help="The model that serves users.")
@click.option("--candidate", required=True, metavar="URL", help="The model that is judged.")
@click.option("--listen", default="127.0.0.1:8080", show_default=True, metavar="HOST:PORT", help="Where users ask.")
@click.option("--feedback", default="127.0.0.1:8081", show_default=True, metavar="HOST:PORT", help="Where labels go.")
@click.option(
    "--admin",
    default="127.0.0.1:0",
    metavar="HOST:PORT",
    help="Health and metrics of the proxy; a free port unless given.",
)
@click.option(
    "--endpoint",
    "endpoints",
    multiple=True,
    metavar="NAME=URL",
    help="Where the Prometheus is that guards name; may be given several times.",
)
@click.option("--state", required=True, type=click.Path(path_type=Path), help="Folder of the run; resumed from it.")
@click.option("--report", "report_path", type=click.Path(path_type=Path), help="HTML file, written at the end.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line, for machines.")
@click.option("--keep-serving", is_flag=True, help="After the verdict, serve users until Ctrl-C.")
@click.option("--new-run", is_flag=True, help="Begin anew although the state holds a run.")
def run(
    spec: Path,
    baseline: str,
    candidate: str,
    listen: str,
    feedback: str,
    admin: str,
    endpoints: tuple[str, ...],
    state: Path,
    report_path: Path | None,
    as_json: bool,
    keep_serving: bool,
    new_run: bool,
) -> int:
    """Judge a candidate on live traffic, on this machine.

    Users ask at --listen and are answered by the baseline; each request is mirrored to the candidate; labels
    are posted to --feedback. Ends with the verdict. Ctrl-C ends it earlier and keeps the state: the same command
    goes on.
    """
    loaded = load_spec(spec)
    known = read_endpoints(endpoints)
    warnings = preflight.check_spec(loaded, known)
    with Ports() as ports:
        options = Options(
            loaded=loaded,
            baseline=read_url("--baseline", baseline),
            candidate=read_url("--candidate", candidate),
            listen=ports.hold("--listen", listen),
            feedback=ports.hold("--feedback", feedback),
            admin=ports.hold("--admin", admin),
            endpoints=known,
            report=report_path,
            keep_serving=keep_serving,
            new_run=new_run,
        )
        preflight.check_feedback(options.feedback)
        preflight.check_report(report_path)
        preflight.check_baseline(options.baseline)
        warnings += preflight.check_candidate(options.candidate)
        with closing(StateFolder(state)) as folder, closing(progress(machine=as_json)) as show, _stop() as stopping:
            for warning in warnings:
                show.warn(warning)
            try:
                return Session(options, folder, show, stopping).play()
            except Interrupted:
                return ExitCode.UNDECIDED


@contextmanager
def _stop() -> Iterator[threading.Event]:
    """Set by the first Ctrl-C or SIGTERM; the second raises KeyboardInterrupt."""
    stopping = threading.Event()

    def stop(number: int, frame: FrameType | None) -> None:
        if stopping.is_set():
            raise KeyboardInterrupt
        stopping.set()

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stopping
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
