"""The asyncio client: the same, without blocking, and cancelled when its task is."""

import asyncio

import pytest

from conftest import ENDLESS, PATIENCE_S, Fake, busy, wait_until
from mms_client import AsyncClient, BadReply, ClientClosed, ConnectionFailed, ConnectionLost, ModelNotFound, NoReply

FINE = {"status": "success"}
SHORT_S = 0.5


def run(work):
    return asyncio.run(asyncio.wait_for(work, PATIENCE_S))


def against(script, work, **settings):
    """Runs `work(client, fake)`."""

    async def whole():
        async with AsyncClient(port=fake.port, **{"timeout": PATIENCE_S, **settings}) as client:
            return await work(client, fake)

    with Fake(script) as fake:
        return run(whole())


def test_a_real_server(suite):
    async def work():
        async with AsyncClient(suite.main, http=suite.http) as client:
            replies = await asyncio.gather(*(client.ping() for _ in range(50)))
            assert {reply["agent"] for reply in replies} == {"ModelManagerSuite"}
            assert len({reply["request_id"] for reply in replies}) == 50
            texts = await asyncio.gather(*(client.generate("Hello!", max_tokens=8, temperature=0) for _ in range(4)))
            assert len({reply["text"] for reply in texts}) == 1 and texts[0]["text"]
            with pytest.raises(ModelNotFound):
                await client.get_model_status("nobody")

    run(work())


def test_one_client_in_several_loops():
    with Fake(lambda request, n: FINE) as fake:
        client = AsyncClient(port=fake.port)
        for _ in range(3):
            assert run(client.ping())["status"] == "success"
        client.close()
        with pytest.raises(ClientClosed):
            run(client.ping())


def test_after_a_timeout_the_next_request_is_answered():
    async def work(client, fake):
        with pytest.raises(NoReply):
            await client.ping(timeout=SHORT_S)
        assert (await client.ping())["n"] == 2

    against(lambda request, n: (2 * SHORT_S, {**FINE, "n": 1}) if n == 1 else {**FINE, "n": n}, work, retries=0)


def test_a_generation_is_sent_once():
    async def work(client, fake):
        with pytest.raises(NoReply):
            await client.generate("Hello!", timeout=SHORT_S)
        assert fake.names == ["generate"]

    against(lambda request, n: None, work)


def test_what_may_be_repeated_is_repeated():
    async def work(client, fake):
        assert (await client.ping(timeout=8 * SHORT_S))["status"] == "success"
        assert fake.names == ["ping"] * 2

    against(lambda request, n: None if n == 1 else FINE, work)


def test_a_full_queue_is_asked_again():
    async def work(client, fake):
        assert (await client.generate("Hello!"))["status"] == "success"
        assert len(fake.requests) == 3

    against(lambda request, n: busy() if n < 3 else FINE, work)


def test_another_requests_reply():
    async def work(client, fake):
        with pytest.raises(BadReply):
            await client.generate("Hello!")

    against(lambda request, n: {**FINE, "request_id": "other"}, work)


def test_a_server_that_goes_away_is_noticed_at_once():
    async def work(client, fake):
        asking = asyncio.create_task(client.generate("Hello!", timeout=3600))
        while not fake.requests:
            await asyncio.sleep(0.005)
        await asyncio.to_thread(fake.stop)
        with pytest.raises(ConnectionLost):
            await asking

    against(lambda request, n: None, work)


def test_nobody_listens():
    with Fake(lambda request, n: FINE) as fake:
        port = fake.port

    async def work():
        async with AsyncClient(port=port, connect_timeout=SHORT_S) as client:
            with pytest.raises(ConnectionFailed):
                await client.ping()

    run(work())


def test_a_cancelled_task_leaves_nothing_behind():
    async def work(client, fake):
        for _ in range(20):
            asking = asyncio.create_task(client.generate("Hello!"))
            await asyncio.sleep(0.01)
            asking.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asking
            # The next request's sockets may have the very file numbers of the last one.
            assert (await client.ping())["status"] == "success"

    against(lambda request, n: None if request["action"] == "generate" else FINE, work)


def test_a_slow_request_holds_up_no_other():
    async def work(client, fake):
        slow = asyncio.create_task(client.generate("Hello!"))
        replies = await asyncio.gather(*(client.ping() for _ in range(20)))
        assert len(replies) == 20 and not slow.done()
        slow.cancel()

    against(lambda request, n: None if request["action"] == "generate" else FINE, work)


def test_a_cancelled_generation_ends_at_the_server(suite):
    async def work():
        async with AsyncClient(suite.main) as client:
            await client.load_model("mms-demo")
            asking = asyncio.create_task(client.generate("Once", **ENDLESS))
            while not (await client.list_models())["models"][0]["active_requests"]:
                await asyncio.sleep(0.005)
            asking.cancel()
            await asyncio.wait([asking])

    before = suite.cancelled("action")
    run(work())
    wait_until(lambda: suite.cancelled("action") == before + 1, "the end of the generation")
