"""A sidecar and a ledger as processes, two language models, users, and references as labels: it ends as evidence."""

import http.client
import json
import math
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from tests.listening import free_ports
from tests.sidecar.llm.language_model import CORPUS, LanguageModel, Served, serving, template
from tests.sidecar.test_end_to_end import Stand, answers, process
from tests.sidecar.test_end_to_end import until as within

PATHS = ["/v1/completions", "/v1/chat/completions"]
SECRET = "the user's secret words"
#: Another corpus and other merges: another model, whose tokenizer differs.
OTHER = LanguageModel("Q: A: Paris Rome London. The capital of Spain is Madrid, naturally. " * 4, merges=25)


def until(condition: Callable[[], object]) -> None:
    within(condition, 120.0)


class LanguageStand(Stand):
    def begin(
        self,
        candidate: str,
        *,
        agreement: bool = False,
        per_byte: bool = False,
        tokens: float = 1e6,
        name: str = "tiny",
    ) -> None:
        model: dict[str, Any] = {"protocol": "openai", "paths": PATHS, "lossPer": "byte" if per_byte else "token"}
        labels: dict[str, Any] = {"maturity": "0s"}
        if agreement:
            labels = {"mode": "Agreement", "agreement": {"rollbackAbove": "0.5"}}
        instructions = {
            "version": 1,
            "run": "run-1",
            "candidate": candidate,
            "share": 1.0,
            "model": {**model, "references": not agreement},
            "mirror": {"maxPairsPerSecond": 100_000.0, "timeout": 60.0, "maxTokensPerSecond": tokens},
        }
        body = {"epoch": 1, "instructions": instructions, "spec": {"model": model, "labels": labels}}
        answer = httpx.put(f"{self.ledger}/v1/runs/default/pets/instructions", json=body, trust_env=False)
        assert answer.status_code == 200, answer.text
        with httpx.Client(base_url=self.sidecar, trust_env=False) as users:

            def capturing() -> bool:
                users.post(PATHS[0], json={"model": name, "prompt": ["several"], "max_tokens": 1}, timeout=20)
                return self.figure("mirror_dropped_total", "promptNotText") > 0

            until(capturing)

    def label(self, *labels: dict[str, Any]) -> dict[str, int]:
        answer = httpx.post(
            f"{self.ledger}/v1/feedback", params={"name": "pets"}, content=json.dumps(labels), trust_env=False
        )
        assert answer.status_code == 202, answer.text
        found: dict[str, int] = answer.json()
        return found

    def ask(self, id: str, path: str = PATHS[0], **body: Any) -> httpx.Response:
        answer = httpx.post(self.sidecar + path, json=body, headers={"X-Request-Id": id}, timeout=20, trust_env=False)
        assert answer.status_code == 200, answer.text
        return answer

    def exported(self) -> list[dict[str, Any]]:
        answer = httpx.get(f"{self.ledger}/v1/runs/default/pets/pairs", params={"format": "ndjson"}, trust_env=False)
        return [json.loads(line) for line in answer.text.splitlines()]


@contextmanager
def stand(directory: Path, baseline: Served, candidate: Served) -> Iterator[LanguageStand]:
    with serving(baseline), serving(candidate), stand_at(directory, baseline.url) as at:
        yield at


@contextmanager
def stand_at(directory: Path, baseline: str) -> Iterator[LanguageStand]:
    """A sidecar in front of the server at `baseline`, and a ledger."""
    live, admin, ledger = free_ports(3)
    with ExitStack() as stack:
        recording = ("--listen", f"127.0.0.1:{ledger}", "--state", str(directory / "state"))
        stack.enter_context(process("modelcanary_ledger", *recording))
        until(lambda: answers(f"http://127.0.0.1:{ledger}/readyz"))
        sidecar = stack.enter_context(
            process(
                "modelcanary_sidecar",
                *("--listen", f"127.0.0.1:{live}", "--upstream", baseline, "--admin", f"127.0.0.1:{admin}"),
                *("--ledger", f"http://127.0.0.1:{ledger}", "--namespace", "default", "--name", "pets"),
                *("--drain-delay", "100ms"),
            )
        )
        until(lambda: answers(f"http://127.0.0.1:{admin}/readyz"))
        yield LanguageStand(
            f"http://127.0.0.1:{live}", f"http://127.0.0.1:{admin}", f"http://127.0.0.1:{ledger}", sidecar
        )


def loss_in(row: dict[str, Any], role: str) -> float:
    return -math.log(row[role][0])


QUESTIONS = [
    ("q-1", "Q: What is the capital of France? A:", " Paris."),
    ("q-2", f"{SECRET}. Q: What is the capital of Italy? A:", " Rome."),
    ("q-3", "The capital of France is", " Paris, ça va très bien."),
]


@pytest.mark.parametrize("per_byte", [False, True])
def test_references_that_come_later_are_scored_under_both_models(tmp_path: Path, per_byte: bool) -> None:
    baseline, candidate = Served(), Served(OTHER, name="other")
    with stand(tmp_path, baseline, candidate) as at:
        at.begin(candidate.url, per_byte=per_byte)
        for id, prompt, _ in QUESTIONS:
            at.ask(id, model="tiny", prompt=prompt)
        at.ask("q-4", PATHS[1], model="tiny", messages=[{"role": "user", "content": "What is the capital of Italy?"}])
        until(lambda: at.figure("prompts") == 4)
        assert candidate.scorings() == [], "nothing is scored before there is a reference"
        counts = at.label(*({"id": id, "label": text} for id, _, text in QUESTIONS), {"id": "q-4", "label": "Rome."})
        assert counts["unmatched"] == 4
        until(lambda: at.evidence()["counts"]["labelled"] == 4)
        assert at.label({"id": "q-1", "label": " Paris."})["duplicate"] == 1

        rows = {row["id"]: row for row in at.exported()}
        chat = template(
            [{"role": "user", "content": "What is the capital of Italy?"}], generation=True, continued=False
        )
        for id, prompt, text in (*QUESTIONS, ("q-4", chat, "Rome.")):
            nats, tokens = baseline.model.loss(prompt, text)
            divisor = len(text.encode()) * math.log(2) if per_byte else tokens
            assert math.isclose(loss_in(rows[id], "baseline"), nats / divisor, rel_tol=1e-5)
            assert math.isclose(loss_in(rows[id], "candidate"), OTHER.loss(prompt, text)[0] / divisor, rel_tol=1e-5)
        (block,) = httpx.get(
            f"{at.ledger}/v1/runs/default/pets/evidence", params={"unclosed": "true"}, trust_env=False
        ).json()["loss"]
        bound = -math.log(1e-4)
        for role, total in (("baseline", block["moments"]["b"]), ("candidate", block["moments"]["c"])):
            assert math.isclose(total, sum(min(loss_in(row, role), bound) for row in rows.values()), rel_tol=1e-5)
        until(lambda: at.figure("prompts") == 0)  # what was scored is not kept
        until(lambda: (at.figure("tokenizers_differ_total") > 0) is not per_byte)
        written = b"".join(path.read_bytes() for path in (tmp_path / "state").iterdir())
        assert b"q-2" in written
        for secret in (SECRET, " Rome.", "ça va"):
            assert secret.encode() not in written, "no word of users or of references is in a file"
        assert all(headers["X-ModelCanary-Shadow"] == "1" for _, headers, _ in candidate.requests)


def test_without_labels_the_baselines_answer_is_scored_and_streams_pass_untouched(tmp_path: Path) -> None:
    baseline, candidate = Served(), Served(OTHER)
    with stand(tmp_path, baseline, candidate) as at:
        at.begin(candidate.url, agreement=True)
        bodies: list[tuple[str, str, dict[str, Any]]] = [
            ("whole", PATHS[0], {"prompt": "Q: The capital of", "max_tokens": 5}),
            ("stream", PATHS[0], {"prompt": "Q: The capital of", "max_tokens": 5, "stream": True}),
            ("chat", PATHS[1], {"messages": [{"role": "user", "content": "Q:"}], "max_tokens": 5, "stream": True}),
        ]
        for id, path, body in bodies:
            address = urlsplit(at.sidecar)
            user = http.client.HTTPConnection(address.hostname or "", address.port, timeout=20)
            data = json.dumps({"model": "tiny", **body}).encode()
            user.request("POST", path, data, {"X-Request-Id": id, "Content-Type": "application/json"})
            answer = user.getresponse()
            got = answer.read()
            if body.get("stream"):
                assert answer.headers["Content-Type"] == "text/event-stream; charset=utf-8"
                assert got == b"".join(baseline.stream(path, json.loads(data)))
            user.close()
        until(lambda: at.evidence()["counts"]["scored"] == 3)
        rows = {row["id"]: row for row in at.exported()}
        reply = baseline.answer(PATHS[0], {**bodies[0][2], "model": "tiny"})["choices"][0]["text"]
        for id in ("whole", "stream"):
            nats, tokens = baseline.model.loss("Q: The capital of", reply)
            assert math.isclose(loss_in(rows[id], "baseline"), nats / tokens, rel_tol=1e-5)
            nats, _ = OTHER.loss("Q: The capital of", reply)
            assert math.isclose(loss_in(rows[id], "candidate"), nats / tokens, rel_tol=1e-5)
        assert not any(body.get("stream") for body in (*baseline.scorings(), *candidate.scorings()))


def test_a_server_that_cannot_score_is_a_typed_outcome(tmp_path: Path) -> None:
    deaf = frozenset({"prompt_logprobs", "echo"})
    baseline, candidate = Served(), Served(LanguageModel(CORPUS), ignores=deaf)
    with stand(tmp_path, baseline, candidate) as at:
        at.begin(candidate.url, agreement=True)
        for number in range(3):
            at.ask(f"n-{number}", model="tiny", prompt="The capital of", max_tokens=4)
        until(lambda: at.evidence()["counts"]["pairs"] == 3)
        outcomes = at.evidence()["counts"]["outcomes"]
        assert outcomes == {"baseline": {"ok": 3}, "candidate": {"noPromptLogprobs": 3}}
        until(lambda: at.figure("candidate_unread_total", "promptLogprobs") == 3)  # it is told once a second
        assert (at.figure("scores", "baseline"), at.figure("scores", "candidate")) == (1.0, 0.0)


def test_what_cannot_be_scored_is_counted_by_reason(tmp_path: Path) -> None:
    baseline, candidate = Served(), Served()
    with stand(tmp_path, baseline, candidate) as at:
        at.begin(candidate.url, agreement=True)
        image = {"type": "image_url", "image_url": {"url": "data:,"}}
        httpx.post(
            at.sidecar + PATHS[1],
            json={"model": "tiny", "messages": [{"role": "user", "content": [image]}]},
            trust_env=False,
        )
        httpx.post(at.sidecar + PATHS[0], json={"model": "none", "prompt": "The capital"}, trust_env=False)
        until(lambda: at.figure("mirror_dropped_total", "answerNotText") == 1)
        until(lambda: at.evidence()["counts"]["dropped"].get("answerNotText") == 1)
        assert at.evidence()["counts"]["dropped"]["promptNotText"] >= 2
