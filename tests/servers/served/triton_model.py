"""A real Triton, by nvidia-pytriton, on the CPU: `python triton_model.py MODEL PORT WORKSPACE`."""

import sys
from typing import Any

import joblib
import numpy as np
from pytriton.decorators import batch
from pytriton.model_config import ModelConfig, Tensor
from pytriton.triton import Triton, TritonConfig

_model = joblib.load(sys.argv[1])


@batch  # type: ignore[untyped-decorator]
def infer(x: Any) -> dict[str, Any]:
    probabilities = _model.predict_proba(x)
    return {
        "probabilities": probabilities.astype(np.float32),
        "half": probabilities.astype(np.float16),
        "label": probabilities.argmax(1).astype(np.int64)[:, None],
    }


def main() -> None:
    config = TritonConfig(
        http_address="127.0.0.1", http_port=int(sys.argv[2]), allow_grpc=False, allow_metrics=False, log_verbose=0
    )
    with Triton(config=config, workspace=sys.argv[3]) as triton:
        triton.bind(
            model_name="digits",
            infer_func=infer,
            inputs=[Tensor(name="x", dtype=np.float32, shape=(64,))],
            outputs=[
                Tensor(name="label", dtype=np.int64, shape=(1,)),
                Tensor(name="probabilities", dtype=np.float32, shape=(10,)),
                Tensor(name="half", dtype=np.float16, shape=(10,)),
            ],
            config=ModelConfig(max_batch_size=64),
        )
        triton.serve()


if __name__ == "__main__":
    main()
