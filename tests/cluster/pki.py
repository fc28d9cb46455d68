"""A certificate authority of the cluster's own, its certificates, and kubeconfigs that use them.

Called by `control_plane` and `node`. Everything is made anew for each start, by the openssl command.
"""

import json
import subprocess
from pathlib import Path

from tests.cluster.errors import ClusterError

_DAYS = "7"


class Authority:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.certificate = folder / "ca.crt"
        _openssl(
            "req", "-x509", *_key(folder / "ca.key"), "-subj", "/CN=modelcanary-test", "-out", str(self.certificate)
        )

    def issue(self, name: str, subject: str, addresses: str = "") -> tuple[Path, Path]:
        """Certificate and key for a subject such as `/O=system:masters/CN=admin`."""
        certificate, key, request = (self.folder / f"{name}.{ending}" for ending in ("crt", "key", "csr"))
        extensions = self.folder / f"{name}.ext"
        extensions.write_text(f"subjectAltName={addresses or f'DNS:{name}'}\n")
        _openssl("req", *_key(key), "-subj", subject, "-out", str(request))
        _openssl(
            *("x509", "-req", "-in", str(request), "-CA", str(self.certificate), "-CAkey", str(self.folder / "ca.key")),
            *("-CAcreateserial", "-days", _DAYS, "-extfile", str(extensions), "-out", str(certificate)),
        )
        return certificate, key

    def service_account_keys(self) -> tuple[Path, Path]:
        """Private and public key for the tokens of ServiceAccounts."""
        private, public = self.folder / "sa.key", self.folder / "sa.pub"
        _openssl("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", str(private))
        _openssl("pkey", "-in", str(private), "-pubout", "-out", str(public))
        return private, public


def kubeconfig(path: Path, server: str, authority: Path, certificate: Path, key: Path) -> Path:
    """Written as JSON, which is YAML."""
    user = {"client-certificate": str(certificate), "client-key": str(key)}
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "test", "cluster": {"server": server, "certificate-authority": str(authority)}}],
        "users": [{"name": "test", "user": user}],
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
        "current-context": "test",
    }
    path.write_text(json.dumps(config, indent=1))
    return path


def _key(path: Path) -> tuple[str, ...]:
    curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256")
    return (*curve, "-nodes", "-keyout", str(path), "-days", _DAYS)


def _openssl(*arguments: str) -> None:
    try:
        run = subprocess.run(["openssl", *arguments], capture_output=True, text=True, timeout=60, check=False)
    except FileNotFoundError as error:
        raise ClusterError("the openssl command is not there; install the package openssl") from error
    if run.returncode:
        raise ClusterError(f"openssl {arguments[0]} failed: {run.stderr.strip()[-500:]}")
