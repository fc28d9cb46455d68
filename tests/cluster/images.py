"""Container images as files, made without a container engine.

Called by `node` for the one image that a node cannot do without; images of the project come from its own recipes.
"""

import hashlib
import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path


def docker_archive(path: Path, name: str, files: Mapping[str, Path], entrypoint: Sequence[str]) -> Path:
    """An image of one layer, as `docker save` writes it. `files`: where each goes in the image, and where it is."""
    layer = _tar({where: (source.read_bytes(), 0o755) for where, source in files.items()})
    layer_id = hashlib.sha256(layer).hexdigest()
    config = json.dumps(
        {
            "architecture": "amd64",
            "os": "linux",
            "config": {"Entrypoint": list(entrypoint)},
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{layer_id}"]},
        }
    ).encode()
    config_name = f"{hashlib.sha256(config).hexdigest()}.json"
    manifest = [{"Config": config_name, "RepoTags": [name], "Layers": [f"{layer_id}/layer.tar"]}]
    contents = {config_name: config, f"{layer_id}/layer.tar": layer, "manifest.json": json.dumps(manifest).encode()}
    path.write_bytes(_tar({where: (content, 0o644) for where, content in contents.items()}))
    return path


def _tar(contents: Mapping[str, tuple[bytes, int]]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for where, (content, mode) in contents.items():
            entry = tarfile.TarInfo(where.lstrip("/"))
            entry.size, entry.mode = len(content), mode
            archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()
