# Run by `helm test` in the operator's image. Tries each for a minute, and says which did not answer.
import os
import ssl
import sys
import time
import urllib.error
import urllib.request

ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"
API = f"https://{os.environ['KUBERNETES_SERVICE_HOST']}:{os.environ['KUBERNETES_SERVICE_PORT']}"


def ask(url: str) -> str | None:
    """None, or what is wrong."""
    headers: dict[str, str] = {}
    context = ssl.create_default_context(cafile=os.environ.get("AUTHORITY"))
    if url.startswith(API):
        with open(f"{ACCOUNT}/token") as file:
            headers["Authorization"] = f"Bearer {file.read().strip()}"
        context = ssl.create_default_context(cafile=f"{ACCOUNT}/ca.crt")
    try:
        urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=5, context=context).close()
    except urllib.error.HTTPError as error:
        return f"{error.code} {error.read(300).decode(errors='replace')}"
    except OSError as error:
        return str(error)
    return None


wrong = False
for what, url in (
    ("the resource is served", f"{API}/apis/modelcanary.io/v1alpha1"),
    ("the ledger is ready", f"{os.environ['LEDGER']}/readyz"),
    ("the operator is ready", f"{os.environ['OPERATOR']}/readyz"),
):
    end = time.monotonic() + 60
    while (problem := ask(url)) is not None and time.monotonic() < end:
        time.sleep(1)
    print(f"{what}: {'yes' if problem is None else f'no: {url}: {problem}'}", flush=True)
    wrong |= problem is not None
sys.exit(wrong)
