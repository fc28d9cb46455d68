"""Real servers: what each answers is read as exactly what its model says, or as the reason why it cannot be."""

import gzip
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from demo.models import Digits
from demo.serving import Served
from tests.servers import start
from tests.servers.asking import CAP, JSON, READING, ask, probabilities, read, unread, v1, v2, v2_binary
from tests.servers.page import examples, run, write_requests

from modelcanary_gate.vocabulary import Outcome, Role
from modelcanary_sidecar.asked import id_in, instances
from modelcanary_sidecar.capture import header
from modelcanary_sidecar.decoding import Cause

pytestmark = [pytest.mark.servers, pytest.mark.timeout(900)]

V2 = "/v2/models/digits/infer"
Start = Callable[[Path, Path], Served]


@pytest.fixture(scope="module")
def digits() -> Digits:
    return start.digits()


@pytest.fixture(scope="module")
def rows(digits: Digits) -> Any:
    return digits.rows[:2]


@pytest.fixture(scope="module")
def expected(digits: Digits) -> Any:
    return digits.probabilities["baseline"][:2]


@pytest.fixture(scope="class")
def url(request: pytest.FixtureRequest, digits: Digits, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The server of the class, which is ended before the next one starts."""
    begin: Start = request.cls.begin
    served = begin(digits.model("baseline"), tmp_path_factory.mktemp("server"))
    try:
        yield served.url
    finally:
        served.process.end()


class OfThePage:
    """What docs/protocols.md shows, done: each server's tests begin with it."""

    section: str
    begin: Start

    def test_what_the_page_shows_is_read(self, url: str, rows: Any, expected: Any, tmp_path: Path) -> None:
        write_requests(tmp_path, rows)
        shown = list(examples(self.section))
        assert shown
        for example in shown:
            found = probabilities(run(example, url, tmp_path), example.reading)
            np.testing.assert_allclose(found, expected, atol=1e-6)


class TestKServe(OfThePage):
    section, begin = "KServe", staticmethod(start.kserve_server)

    def test_v1_by_mappings_needs_the_outputs_name(self, url: str, rows: Any, expected: Any) -> None:
        answer = ask(url, "/v1/models/digits:predict", v1(rows, answer="mappings"))
        np.testing.assert_allclose(probabilities(answer, replace(READING, output="scores")), expected, atol=1e-6)
        assert unread(answer).cause is Cause.OUTPUT

    def test_v1_labels_are_labels(self, url: str, rows: Any) -> None:
        assert unread(ask(url, "/v1/models/digits:predict", v1(rows, answer="labels"))).outcome is Outcome.LABELS_ONLY

    def test_v2_in_binary_without_a_content_type(self, url: str, rows: Any, expected: Any) -> None:
        body, headers = v2_binary(rows, parameters={"binary_data_output": True})
        answer = ask(url, V2, body, headers)
        assert header(answer.headers, b"content-type") is None
        assert header(answer.headers, b"inference-header-content-length") is not None
        np.testing.assert_allclose(probabilities(answer), expected, atol=1e-6)
        assert (id_in(headers.encode(), body, CAP), instances(headers.encode(), body, CAP)) == ("req-42", 2)

    def test_another_order_of_classes_is_declared(self, url: str, rows: Any, expected: Any) -> None:
        backwards = replace(READING, candidateClasses=READING.classes[::-1])
        answer = ask(url, V2, v2(rows))
        found = read(answer, backwards, Role.CANDIDATE)
        assert isinstance(found, list) and isinstance(found[0], bytes)
        np.testing.assert_allclose(np.exp(np.frombuffer(found[0], "<f4")), expected[0][::-1], atol=1e-6)


class TestMLServer(OfThePage):
    section, begin = "MLServer", staticmethod(start.mlserver_of_labels)

    def test_without_a_patch_it_answers_labels(self, url: str, rows: Any) -> None:
        assert unread(ask(url, V2, v2(rows))).outcome is Outcome.LABELS_ONLY

    def test_a_compressed_request_is_patched_too(self, url: str, rows: Any, expected: Any) -> None:
        compressed = gzip.compress(json.dumps(v2(rows)).encode())
        patch = {"outputs": [{"name": "predict_proba"}]}
        answer = ask(url, V2, compressed, f"{JSON}Content-Encoding: gzip\r\n", patch)
        np.testing.assert_allclose(probabilities(answer), expected, atol=1e-6)

    def test_an_answer_in_gzip(self, url: str, rows: Any, expected: Any) -> None:
        many = np.repeat(rows, 20, axis=0)
        answer = ask(
            url, V2, v2(many), f"{JSON}Accept-Encoding: gzip\r\n", patch={"outputs": [{"name": "predict_proba"}]}
        )
        assert header(answer.headers, b"content-encoding") == b"gzip"
        np.testing.assert_allclose(probabilities(answer), np.repeat(expected, 20, axis=0), atol=1e-6)

    def test_binary_requests_are_errors_of_the_server(self, url: str, rows: Any) -> None:
        body, headers = v2_binary(rows)
        assert unread(ask(url, V2, body, headers)).outcome is Outcome.ERROR_STATUS


class TestTriton(OfThePage):
    section, begin = "Triton", staticmethod(start.triton_server)

    def test_half_precision_is_not_answered_in_json(self, url: str, rows: Any) -> None:
        assert unread(ask(url, V2, v2(rows))).outcome is Outcome.ERROR_STATUS

    @pytest.mark.parametrize("binary", [False, True])
    def test_json_and_binary(self, url: str, rows: Any, expected: Any, binary: bool) -> None:
        body, headers = v2_binary(rows) if binary else (v2(rows), JSON)
        patch = {"outputs": [{"name": "probabilities", "parameters": {"binary_data": binary}}]}
        answer = ask(url, V2, body, headers, patch)
        assert (header(answer.headers, b"inference-header-content-length") is not None) is binary
        np.testing.assert_allclose(probabilities(answer), expected, atol=1e-6)

    def test_half_precision_beside_labels(self, url: str, rows: Any, expected: Any) -> None:
        answer = ask(url, V2, v2(rows, parameters={"binary_data_output": True}))
        np.testing.assert_allclose(probabilities(answer), expected, atol=1e-6)
        half = replace(READING, output="half")
        np.testing.assert_allclose(probabilities(answer, half), expected, rtol=2e-3, atol=1e-4)
        assert unread(answer, replace(READING, output="label")).outcome is Outcome.LABELS_ONLY

    @pytest.mark.parametrize("coding", ["gzip", "deflate"])
    def test_compressed(self, url: str, rows: Any, expected: Any, coding: str) -> None:
        answer = ask(
            url,
            V2,
            v2(rows, parameters={"binary_data_output": True}),
            f"{JSON}Accept-Encoding: {coding}\r\n",
        )
        assert header(answer.headers, b"content-encoding") == coding.encode()
        np.testing.assert_allclose(probabilities(answer), expected, atol=1e-6)

    @pytest.mark.parametrize("binary", [False, True])
    def test_ranked_classes_are_too_few(self, url: str, rows: Any, binary: bool) -> None:
        ranked = {"name": "probabilities", "parameters": {"classification": 3, "binary_data": binary}}
        assert unread(ask(url, V2, v2(rows, outputs=[ranked]))).outcome is Outcome.TOP_K_ONLY


class TestSeldon(OfThePage):
    section, begin = "Seldon", staticmethod(start.seldon_server)

    def test_a_tensor_with_names_in_another_order(self, url: str, rows: Any, expected: Any) -> None:
        body = {"meta": {"puid": "req-7"}, "data": {"tensor": {"shape": [2, 64], "values": rows.ravel().tolist()}}}
        answer = ask(url, "/api/v1.0/predictions", body)
        said = json.loads(answer.body)
        assert said["meta"]["puid"] == "req-7" == id_in(b"", json.dumps(body).encode(), CAP)
        assert said["data"]["names"][0] == "9"
        np.testing.assert_allclose(probabilities(answer), expected, atol=1e-6)


class TestMLflow(OfThePage):
    section, begin = "MLflow", staticmethod(start.mlflow_server)

    @pytest.mark.parametrize("shape", ["frame", "columns"])
    def test_names_come_with_the_answer(self, url: str, rows: Any, expected: Any, shape: str) -> None:
        answer = ask(url, "/invocations", {"inputs": rows.tolist(), "params": {"shape": shape}})
        np.testing.assert_allclose(probabilities(answer), expected, atol=1e-6)

    def test_labels_and_nan(self, url: str, rows: Any) -> None:
        def shaped(shape: str) -> Any:
            return ask(url, "/invocations", {"inputs": rows.tolist(), "params": {"shape": shape}})

        assert unread(shaped("labels")).outcome is Outcome.LABELS_ONLY
        bad = shaped("nan")
        assert b"NaN" in bad.body
        found = read(bad)
        assert unread(bad).outcome is Outcome.NON_FINITE
        assert isinstance(found, list) and isinstance(found[1], bytes)


class TestBentoML(OfThePage):
    section, begin = "BentoML", staticmethod(start.bentoml_server)


class TestLitServe(OfThePage):
    section, begin = "LitServe", staticmethod(start.litserve_server)

    def test_what_auto_does_not_know_is_named(self, url: str, rows: Any) -> None:
        found = unread(ask(url, "/predict", {"rows": rows.tolist()}))
        assert (found.outcome, found.cause) == (Outcome.UNDECODABLE, Cause.SHAPE)
        assert "protocol: custom" in found.message
