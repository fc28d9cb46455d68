"""Models and runs as the texts that every store keeps: JSON, so that a store needs no column per field.

Called by `state` and by the store in PostgreSQL.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from modelcanary_gate.blocks_json import (
    loss_block_from_json,
    loss_block_to_json,
    traffic_block_from_json,
    traffic_block_to_json,
)
from modelcanary_gate.contrasts import EvidencePlan
from modelcanary_gate.parse import parse_spec
from modelcanary_gate.protocol import Instructions, LabelSender, LabelSource
from modelcanary_ledger.model import Share, Standing
from modelcanary_ledger.run import Progress, Run
from modelcanary_ledger.store import LOSS, TRAFFIC

progress_of = msgspec.json.Decoder(Progress).decode


def text_of(value: object) -> str:
    return msgspec.json.encode(value).decode()


def standing_of(row: tuple[Any, ...], runs: Mapping[int, Run]) -> Standing:
    """From (no, namespace, name, epoch, run, instructions, shares, senders, sources)."""
    no, namespace, name, epoch, run, instructions, shares, senders, sources = row
    current = runs.get(run)
    return Standing(
        no,
        namespace,
        name,
        epoch,
        run,
        msgspec.json.decode(instructions, type=Instructions),
        current.spec if current else None,
        current.class_index if current else {},
        msgspec.json.decode(shares, type=tuple[Share, ...]),
        msgspec.json.decode(senders, type=tuple[LabelSender, ...]),
        msgspec.json.decode(sources, type=tuple[LabelSource, ...]),
    )


def row_of(standing: Standing) -> tuple[int, str, str, int, int, str, str, str, str]:
    """What `standing_of` reads."""
    return (
        standing.no,
        standing.namespace,
        standing.name,
        standing.epoch,
        standing.run,
        text_of(standing.instructions),
        text_of(standing.shares),
        text_of(standing.senders),
        text_of(standing.sources),
    )


def texts_of(run: Run) -> tuple[str, str, str, list[tuple[int, int, int, str]]]:
    """Its progress, both open blocks, and the blocks that were cut: (run, stream, number, block)."""
    progress = run.progress
    progress.loss_opened, progress.loss_clock = run.loss.opened, run.loss.clock
    progress.traffic_opened, progress.traffic_clock = run.traffic.opened, run.traffic.clock
    progress.delay_length = run.delays.length
    return (
        text_of(progress),
        text_of(loss_block_to_json(run.plan, run.loss.block)),
        text_of(traffic_block_to_json(run.plan, run.traffic.block)),
        [
            *((run.no, LOSS, b.seq, text_of(loss_block_to_json(run.plan, b))) for b in run.loss.closed),
            *((run.no, TRAFFIC, b.seq, text_of(traffic_block_to_json(run.plan, b))) for b in run.traffic.closed),
        ],
    )


def run_from(row: tuple[Any, ...], cohorts: Iterable[tuple[float, bytes]]) -> Run:
    """From (no, model, run, started, specification, progress, open blocks) and the delays of its labels."""
    no, model, name, started, spec_text, progress, loss, traffic = row
    spec = parse_spec(msgspec.json.decode(spec_text), require_target=False)
    plan = EvidencePlan.of(spec)
    blocks = (
        loss_block_from_json(plan, msgspec.json.decode(loss)) if loss else None,
        traffic_block_from_json(plan, msgspec.json.decode(traffic)) if traffic else None,
    )
    run = Run(no, model, name, spec, started, progress_of(progress), blocks)
    run.delays.load(cohorts)
    return run
