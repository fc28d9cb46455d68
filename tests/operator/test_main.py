"""What the operator does with what the watch says of a ModelCanary."""

import asyncio

from tests.operator.fake_api import FakeApi
from tests.operator.fake_ledger import FakeLedger
from tests.operator.harness import KEY, Cluster

from modelcanary_operator.api import CANARIES
from modelcanary_operator.main import heard
from modelcanary_operator.workqueue import WorkQueue


def test_only_an_event_that_no_look_knows_brings_a_look() -> None:
    async def story() -> None:
        api, queue = FakeApi(), WorkQueue()
        cluster = Cluster(api, FakeLedger())
        await cluster.set_up()

        def version() -> str:
            return str(api[CANARIES, KEY.name]["metadata"]["resourceVersion"])

        async def brings(said: str) -> bool:
            heard(queue, cluster.reconciler, KEY, said)
            if not len(queue):
                return False
            assert await queue.get() == KEY
            queue.done(KEY, None)
            return True

        assert await brings(version()), "no look knows it yet"
        await cluster.settle()
        assert not await brings(version()), "the look's own write"
        assert await brings(""), "listed anew, or another's event"
        await api.merge(CANARIES, "team", KEY.name, {"metadata": {"annotations": {"note": "theirs"}}})
        assert await brings(version()), "somebody else has written"

    asyncio.run(story())
