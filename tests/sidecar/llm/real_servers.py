"""Real servers of small Llamas, each behind a `Wire`: llama-cpp-python, llama.cpp's own, and vLLM as it was recorded.

`test_real_servers` asks them. llama.cpp is compiled once, in about a minute, into an environment in the cache. vLLM
is too large to be installed by tests, so what it answered once is answered again: `captures/README.md` says how that
was recorded, and how it is again.
"""

import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from demo.environments import Environment
from demo.processes import Process
from demo.serving import ready
from tests.sidecar.llm.tiny_llama import TinyLlama
from tests.sidecar.llm.wire import Wire, load, save

HERE = Path(__file__).parent
CAPTURES = HERE / "captures" / "vllm"
PATIENCE = 400.0
#: The fewest files and the least work of the compiler that make a llama.cpp which runs on any processor.
_OFF = ("LLAVA_BUILD", *(f"GGML_{part}" for part in ("NATIVE", "OPENMP", "LLAMAFILE", "AVX", "AVX2", "FMA", "F16C")))
_COMPILED = " ".join([*(f"-D{name}=OFF" for name in _OFF), "-DCMAKE_CXX_FLAGS_RELEASE=-O1 -DCMAKE_C_FLAGS_RELEASE=-O1"])
LLAMA_CPP = Environment(
    "llama-cpp-python 0.3.6",
    HERE / "pins" / "llama_cpp.txt",
    (("CMAKE_ARGS", _COMPILED), ("CMAKE_BUILD_PARALLEL_LEVEL", "2")),
)
#: `role=url,...` of running servers to record anew, and what is written beside it: server and date, in JSON.
RECORDING = os.environ.get("MODELCANARY_RECORD_VLLM", "")
RECORDED_AS = "MODELCANARY_RECORDED_AS"

OTHER_CORPUS = "Q: A: Paris Rome London. The capital of Spain is Madrid, naturally. "
#: By role: other weights, another tokenizer too, and a tokenizer that puts no token (BOS) in front of a text.
LLAMAS: dict[str, Callable[[], TinyLlama]] = {
    "baseline": lambda: TinyLlama(1),
    "candidate": lambda: TinyLlama(2),
    "other": lambda: TinyLlama(3, merges=20, corpus=OTHER_CORPUS),
    "bare": lambda: TinyLlama(4, begins=False),
}
#: What a Python is asked to run, by the model's file, its name and a port.
Command = Callable[[Path, str, int], list[str]]


@dataclass
class Bench:
    """The servers of one kind: started, or read from their captures, when they are asked for."""

    kind: str
    chats: bool  # whether chats are scored
    open: Callable[[str, TinyLlama], Wire]
    models: dict[str, TinyLlama] = field(default_factory=dict)
    wires: dict[str, Wire] = field(default_factory=dict)

    def model(self, role: str) -> TinyLlama:
        return self.models.setdefault(role, LLAMAS[role]())

    def wire(self, role: str) -> Wire:
        if role not in self.wires:
            self.wires[role] = self.open(role, self.model(role))
        return self.wires[role]


def name_of(role: str) -> str:
    """What its server calls a model: candidates have a name of their own."""
    return f"tiny-{role}"


def llama_cpp_installed() -> Path:
    if shutil.which("c++") is None:
        raise RuntimeError(
            "llama.cpp is compiled for these tests: install a C++ compiler (Debian: apt-get install g++)"
        )
    return LLAMA_CPP.installed(print)


@contextmanager
def _started(kind: str, health: str, command: Command, folder: Path) -> Iterator[Bench]:
    """Servers of llama.cpp, which scores no chats. `health`: what they answer once they are there."""
    with ExitStack() as stack:

        def opened(role: str, model: TinyLlama) -> Wire:
            place = folder / role
            place.mkdir()
            file = model.save_gguf(place / "model.gguf")
            python = llama_cpp_installed()

            def begin(port: int) -> Process:
                return Process([str(python), *command(file, name_of(role), port)], place / "server.log", cwd=place)

            served = ready(kind, begin, health, PATIENCE)
            stack.enter_context(served.process)
            return stack.enter_context(Wire(served.url).serving())

        yield Bench(kind, False, opened)


@contextmanager
def llama_cpp_python(folder: Path) -> Iterator[Bench]:
    def command(file: Path, name: str, port: int) -> list[str]:
        options = {
            **{"model": file, "model_alias": name, "host": "127.0.0.1", "port": port, "n_ctx": 512},
            **{"logits_all": "true", "type_k": 0, "type_v": 0, "n_threads": 1, "n_threads_batch": 1},
            "interrupt_requests": "false",  # else a scoring request ends whatever stream a user is reading
        }
        asked = [part for option, value in options.items() for part in (f"--{option}", str(value))]
        return ["-m", "llama_cpp.server", *asked]

    with _started("llama-cpp-python", "/v1/models", command, folder) as bench:
        yield bench


@contextmanager
def llama_cpp(folder: Path) -> Iterator[Bench]:
    def command(file: Path, name: str, port: int) -> list[str]:
        return [str(HERE / "llama_cpp_server.py"), str(file), name, str(port)]

    with _started("llama.cpp", "/health", command, folder) as bench:
        yield bench


@contextmanager
def vllm(_: Path) -> Iterator[Bench]:
    """As it was recorded; or itself where servers are named, and then what they answer is recorded anew."""
    urls = dict(pair.split("=", 1) for pair in RECORDING.split(",") if pair)
    with ExitStack() as stack:

        def opened(role: str, _: TinyLlama) -> Wire:
            wire = Wire(urls[role]) if urls else Wire(known=load(CAPTURES / f"{role}.ndjson")[1])
            return stack.enter_context(wire.serving())

        bench = Bench("vllm", True, opened)
        yield bench
        if urls:
            about = {"what": "requests to vLLM and its answers, byte for byte", **json.loads(os.environ[RECORDED_AS])}
            for role, wire in bench.wires.items():
                path = CAPTURES / f"{role}.ndjson"
                before = load(path)[1] if path.exists() else []
                save(path, {**about, "model": f"LLAMAS[{role!r}]"}, [*before, *wire.exchanges()])


def main() -> None:
    """Writes the models for vLLM into the folder that is named."""
    for role, made in LLAMAS.items():
        made().save_hugging_face(Path(sys.argv[1]) / role)


if __name__ == "__main__":
    main()
