"""The ConfigMap with the ledger's authorities: given, replaced, shared by the canaries of a namespace, never a key."""

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from tests.operator.conftest import RealApi
from tests.operator.fake_api import FakeApi
from tests.operator.fake_ledger import FakeLedger
from tests.operator.harness import SPEC, Cluster, settings, template

from modelcanary_gate.parse import parse_spec
from modelcanary_gate.plan.phases import Phase
from modelcanary_operator import manifests, names
from modelcanary_operator.api import CONFIG_MAPS, DEPLOYMENTS
from modelcanary_operator.authority import Authority, read_authorities
from modelcanary_operator.bucket import Bucket
from modelcanary_operator.errors import Refused, SettingsError
from modelcanary_operator.kube import Kube, configuration
from modelcanary_operator.manifests import Owner, Source
from modelcanary_operator.templates import find_port

ONE, TWO = (f"-----BEGIN CERTIFICATE-----\n{word}\n-----END CERTIFICATE-----\n" for word in ("one", "two"))
TLS = ("--sidecar-ledger", "https://ledger:8071")


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    path = tmp_path / "ca.crt"
    path.write_text(ONE)
    return path


def owner(name: str, uid: str) -> Owner:
    return Owner("team", name, uid, parse_spec(SPEC), settings().sidecar)


class World:
    def __init__(self, path: Path) -> None:
        self.now = 1000.0
        self.api = FakeApi()
        self.authority = Authority(self.api, path, lambda: self.now)

    def keep(self, name: str, uid: str = "") -> None:
        asyncio.run(self.authority.keep(owner(name, uid or f"uid-{name}")))

    @property
    def given(self) -> Any:
        return self.api[CONFIG_MAPS, names.AUTHORITY]

    @property
    def owners(self) -> list[tuple[str, bool]]:
        return [(item["uid"], item["controller"]) for item in self.given["metadata"]["ownerReferences"]]


def test_it_is_written_once_and_belongs_to_every_canary(bundle: Path) -> None:
    world = World(bundle)
    for _ in range(3):
        world.keep("fraud")
        world.keep("churn")
    assert world.given["data"] == {"ca.crt": ONE}
    assert world.owners == [("uid-fraud", False), ("uid-churn", False)]
    assert len(world.api.writes) == 2
    world.now += 61
    world.keep("fraud")
    assert len(world.api.writes) == 2
    world.keep("fraud", "uid-again")  # deleted and made anew: another owner
    assert ("uid-again", False) in world.owners


def test_a_replaced_file_is_given_at_the_next_look(bundle: Path) -> None:
    world = World(bundle)
    world.keep("fraud")
    bundle.write_text(ONE + TWO)
    world.keep("fraud")
    assert world.given["data"] == {"ca.crt": ONE + TWO}
    assert world.owners == [("uid-fraud", False)]


def test_what_others_did_to_it_is_set_right(bundle: Path) -> None:
    world = World(bundle)
    world.keep("fraud")
    world.given["data"] = {"ca.crt": "mine", "other": "stays"}
    world.now += 61
    world.keep("fraud")
    assert world.given["data"] == {"ca.crt": ONE, "other": "stays"}
    world.api.objects.clear()
    world.now += 61
    world.keep("fraud")
    assert world.given["data"] == {"ca.crt": ONE}


def test_one_that_is_there_already_stays_its_makers(bundle: Path) -> None:
    """The chart has one in its own namespace: with owners of ours it would be collected with our last canary."""
    world = World(bundle)
    theirs = {"metadata": {"name": names.AUTHORITY, "labels": {"app.kubernetes.io/managed-by": "Helm"}}}
    asyncio.run(world.api.create(CONFIG_MAPS, "team", {**theirs, "data": {"ca.crt": ONE}}))
    world.keep("fraud")
    assert len(world.api.writes) == 1 and "ownerReferences" not in world.given["metadata"]
    bundle.write_text(TWO)
    world.keep("fraud")
    assert world.given["data"] == {"ca.crt": TWO}, "sidecars beside it follow all the same"
    assert "ownerReferences" not in world.given["metadata"]


@pytest.mark.parametrize("broken", ["", "no certificate", ONE + "-----BEGIN PRIVATE KEY-----\nx\n", ONE * 20_000])
def test_what_is_no_list_of_certificates_is_never_given(
    bundle: Path, broken: str, caplog: pytest.LogCaptureFixture
) -> None:
    world = World(bundle)
    world.keep("fraud")
    bundle.write_text(broken)
    for _ in range(3):
        world.keep("fraud")
    assert world.given["data"] == {"ca.crt": ONE}
    assert caplog.text.count("sidecars go on") == 1
    with pytest.raises(SettingsError, match="--ledger-ca"):
        read_authorities(bundle)


def test_a_refusal_is_logged_and_holds_nothing_up(bundle: Path, caplog: pytest.LogCaptureFixture) -> None:
    world = World(bundle)

    def refuse(when: str, method: str, plural: str, name: str) -> None:
        if when == "before" and method == "POST":
            raise Refused(403, "exceeded quota")

    world.api.saboteur = refuse
    world.keep("fraud")
    assert "team/fraud: its sidecars cannot know the ledger" in caplog.text


def play(story: Callable[[Cluster, FakeApi], Coroutine[Any, Any, None]], *options: str) -> None:
    async def run() -> None:
        api = FakeApi()
        await story(Cluster(api, FakeLedger(), settings(*options)), api)

    asyncio.run(run())


def test_it_is_there_before_the_baseline_is(bundle: Path) -> None:
    async def story(cluster: Cluster, api: FakeApi) -> None:
        await cluster.set_up()
        await cluster.phase(Phase.SERVING)
        plurals = [(method, plural, name) for method, plural, name in api.writes]
        given, baseline = ("POST", "configmaps", names.AUTHORITY), ("POST", "deployments", "fraud-baseline")
        assert plurals.index(given) < plurals.index(baseline)
        sidecar = api[DEPLOYMENTS, "fraud-baseline"]["spec"]["template"]["spec"]["initContainers"][-1]
        assert "--ledger-ca=/var/run/secrets/modelcanary/ca.crt" in sidecar["args"]
        assert "--ledger=https://ledger:8071" in sidecar["args"]

    play(story, "--ledger-ca", str(bundle), *TLS)


def test_without_a_file_nothing_is_given_or_mounted() -> None:
    async def story(cluster: Cluster, api: FakeApi) -> None:
        await cluster.set_up()
        await cluster.phase(Phase.SERVING)
        assert api.find(CONFIG_MAPS, names.AUTHORITY) is None

    play(story)


@pytest.mark.parametrize(
    ("options", "mounted"),
    [((), False), (TLS, False), (("--ledger-ca", "/ca.crt"), False), (("--ledger-ca", "/ca.crt", *TLS), True)],
)
def test_it_is_mounted_beside_the_token_where_the_ledger_has_tls(options: tuple[str, ...], mounted: bool) -> None:
    written = template()
    port = find_port(written, "http")
    assert port is not None
    made = Owner("team", "fraud", "uid-1", parse_spec(SPEC), settings(*options).sidecar)
    built = manifests.baseline(made, Source("t", written, port, "http"), 1, None, made.sidecar())
    pod = built["spec"]["template"]["spec"]
    token, *rest = pod["volumes"][0]["projected"]["sources"]
    assert token["serviceAccountToken"]["audience"] == "modelcanary-ledger"
    given = {"name": "modelcanary-ca", "optional": True, "items": [{"key": "ca.crt", "path": "ca.crt"}]}
    assert rest == ([{"configMap": given}] if mounted else [])
    assert ("--ledger-ca=/var/run/secrets/modelcanary/ca.crt" in pod["initContainers"][-1]["args"]) is mounted
    # A model's own containers see neither.
    assert all("modelcanary-token" not in str(container.get("volumeMounts")) for container in pod["containers"])


@pytest.mark.cluster
def test_a_real_api_server_takes_it(real_api: RealApi, namespace: str, bundle: Path) -> None:
    async def story() -> None:
        async with Kube(await configuration(real_api.kubeconfig), Bucket(100, 100)) as api:
            authority = Authority(api, bundle, lambda: 0.0)
            for uid in ("6f1c2c3e-0000-4000-8000-000000000001", "6f1c2c3e-0000-4000-8000-000000000002"):
                await authority.keep(owner("fraud", uid))
            bundle.write_text(ONE + TWO)
            await authority.keep(owner("fraud", uid))
            found = await api.get(CONFIG_MAPS, namespace, names.AUTHORITY)
            assert found["data"] == {"ca.crt": ONE + TWO}
            assert len(found["metadata"]["ownerReferences"]) == 2
            await api.delete(CONFIG_MAPS, namespace, names.AUTHORITY)

    asyncio.run(story())
