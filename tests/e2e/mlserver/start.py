"""Starts MLServer with the model that `MODEL_FILE` names, of version `MODEL_VERSION`, on port `MODEL_PORT`."""

import json
import os
import sys
import tempfile
from pathlib import Path

from mlserver.cli import main

_NAME = "digits"


def write(folder: Path) -> None:
    model = folder / _NAME
    model.mkdir()
    settings = {"host": "0.0.0.0", "http_port": int(os.environ.get("MODEL_PORT", "8080")), "grpc_port": 0}
    (folder / "settings.json").write_text(json.dumps({**settings, "parallel_workers": 0, "metrics_endpoint": None}))
    uri = f"/opt/mlserver/models/{os.environ['MODEL_FILE']}.joblib"
    parameters = {"uri": uri, "version": os.environ["MODEL_VERSION"], "extra": {"predict_fn": "predict_proba"}}
    named = {"name": _NAME, "implementation": "mlserver_sklearn.SKLearnModel", "parameters": parameters}
    (model / "model-settings.json").write_text(json.dumps(named))


if __name__ == "__main__":
    place = Path(tempfile.mkdtemp())
    write(place)
    sys.argv[1:] = ["start", str(place)]
    main()
