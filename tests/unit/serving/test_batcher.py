"""The queue before an engine."""

import asyncio
import threading
import time

import numpy as np
import pytest

from convscope.serving import batcher as batcher_module
from convscope.serving.batcher import Batcher
from convscope.serving.limits import RefusedError


def images(*values):
    return np.array(values, np.uint8).reshape(-1, 1, 1, 1)


class Engine:
    """An engine that answers with the value of each image, when it is let."""

    def __init__(self, *, held=False):
        self.batches = []
        self.free = threading.Event()
        self.began = threading.Event()
        if not held:
            self.free.set()

    def __call__(self, batch):
        self.batches.append(batch.ravel().tolist())
        self.began.set()
        assert self.free.wait(10)
        if 13 in batch:
            raise ValueError("13")
        return batch.reshape(-1, 1).astype(np.float32)

    async def has_begun(self):
        await asyncio.to_thread(self.began.wait, 10)


def test_an_idle_engine_does_not_wait_and_a_busy_one_lets_images_gather():
    engine = Engine(held=True)

    async def run():
        batcher = Batcher(engine, max_batch=8)
        first = asyncio.create_task(batcher.predict(images(0)))
        await engine.has_begun()
        others = [asyncio.create_task(batcher.predict(images(n))) for n in range(1, 5)]
        await asyncio.sleep(0)
        engine.free.set()
        return await asyncio.gather(first, *others)

    answers = asyncio.run(run())
    assert engine.batches == [[0], [1, 2, 3, 4]]
    assert [each.ravel().tolist() for each in answers] == [[0], [1], [2], [3], [4]]


def test_images_are_counted_not_requests_and_a_large_request_is_split_and_joined():
    engine = Engine(held=True)

    async def run():
        batcher = Batcher(engine, max_batch=4)
        jobs = [asyncio.create_task(batcher.predict(images(99)))]
        await engine.has_begun()
        jobs.append(asyncio.create_task(batcher.predict(images(*range(10)))))
        jobs.append(asyncio.create_task(batcher.predict(images(20, 21))))
        await asyncio.sleep(0)
        engine.free.set()
        return await asyncio.gather(*jobs)

    _, large, small = asyncio.run(run())
    assert max(map(len, engine.batches)) == 4
    assert large.ravel().tolist() == list(range(10))
    assert small.ravel().tolist() == [20, 21]
    # The small one does not wait for the whole of the large one.
    assert engine.batches == [[99], [0, 1, 2, 3], [20, 21, 4, 5], [6, 7, 8, 9]]


def test_answers_never_swap():
    async def run():
        generator = np.random.default_rng(0)
        batcher = Batcher(Engine(), max_batch=7, queue=10_000)

        async def client():
            for _ in range(5):
                # 13 fails the engine, which is the next test's matter.
                values = generator.integers(20, 256, generator.integers(1, 20))
                answer = await batcher.predict(images(*values))
                assert answer.ravel().tolist() == values.tolist()

        await asyncio.gather(*(client() for _ in range(50)))

    asyncio.run(run())


def test_a_request_at_which_the_engine_fails_harms_no_other():
    engine = Engine(held=True)

    async def run():
        batcher = Batcher(engine, max_batch=3)
        jobs = [asyncio.create_task(batcher.predict(images(0)))]
        await engine.has_begun()
        for values in ([1], [13, 14, 15, 16, 17], [2]):
            jobs.append(asyncio.create_task(batcher.predict(images(*values))))
        await asyncio.sleep(0)
        engine.free.set()
        found = await asyncio.gather(*jobs, return_exceptions=True)
        with pytest.raises(ValueError, match="13"):
            await batcher.predict(images(13))
        assert not batcher.failing
        return found

    first, one, bad, two = asyncio.run(run())
    assert [first.item(), one.item(), two.item()] == [0, 1, 2]
    assert isinstance(bad, ValueError)


def test_an_engine_fails_until_it_answers_again_without_a_request(monkeypatch):
    monkeypatch.setattr(batcher_module, "_LOOK_AGAIN_S", 0.01)
    broken = threading.Event()
    broken.set()

    def engine(batch):
        if broken.is_set():
            raise ValueError("no memory")
        return batch.reshape(-1, 1).astype(np.float32)

    async def run():
        batcher = Batcher(engine)
        with pytest.raises(ValueError, match="memory"):
            await batcher.predict(images(7))
        await asyncio.sleep(0.05)
        assert batcher.failing
        broken.clear()
        async with asyncio.timeout(10):
            while batcher.failing:
                await asyncio.sleep(0.01)
        broken.set()
        with pytest.raises(ValueError, match="memory"):
            await batcher.predict(images(7))
        assert batcher.failing
        broken.clear()
        await batcher.predict(images(7))
        assert not batcher.failing

    asyncio.run(run())


def test_a_request_that_is_cancelled_leaves_the_queue_and_one_in_the_engine_is_dropped():
    engine = Engine(held=True)

    async def run():
        batcher = Batcher(engine, max_batch=4)
        working = asyncio.create_task(batcher.predict(images(1, 2)))
        await engine.has_begun()
        waiting = asyncio.create_task(batcher.predict(images(3)))
        staying = asyncio.create_task(batcher.predict(images(4)))
        await asyncio.sleep(0)
        working.cancel()
        waiting.cancel()
        await asyncio.sleep(0)
        engine.free.set()
        assert (await staying).item() == 4
        assert waiting.cancelled()
        assert working.cancelled()
        assert (await batcher.predict(images(5))).item() == 5

    asyncio.run(run())
    assert engine.batches == [[1, 2], [4], [5]]


def test_a_request_that_is_cancelled_in_the_middle_of_its_batches_has_no_more():
    engine = Engine(held=True)

    async def run():
        batcher = Batcher(engine, max_batch=2)
        large = asyncio.create_task(batcher.predict(images(*range(10))))
        await engine.has_begun()
        large.cancel()
        await asyncio.sleep(0)
        engine.free.set()
        assert (await batcher.predict(images(77))).item() == 77

    asyncio.run(run())
    assert engine.batches == [[0, 1], [77]]


def test_a_full_queue_is_refused_at_once_and_empties():
    batcher = Batcher(Engine(), queue=3)
    with batcher.admitted(2):
        with pytest.raises(RefusedError) as full, batcher.admitted(2):
            pass
        with batcher.admitted(1):
            assert batcher.in_flight == 3
    assert (full.value.status, full.value.retry_after) == (503, 1)
    with pytest.raises(RefusedError) as never, batcher.admitted(4):
        pass
    assert never.value.status == 413
    assert batcher.in_flight == 0


def test_a_second_batch_begins_beside_the_first_if_it_is_whole_and_answers_keep_their_order():
    first_is_free, second_is_done = threading.Event(), threading.Event()
    batches = []

    def engine(batch):
        batches.append(batch.ravel().tolist())
        if batch[0, 0, 0, 0] == 0:
            assert first_is_free.wait(10)
        else:
            second_is_done.set()
        return batch.reshape(-1, 1).astype(np.float32)

    async def run():
        batcher = Batcher(engine, max_batch=2, at_once=2)
        large = asyncio.create_task(batcher.predict(images(0, 1, 2, 3, 4)))
        assert await asyncio.to_thread(second_is_done.wait, 10)
        await asyncio.sleep(0.05)
        assert batches == [[0, 1], [2, 3]]  # the third would not be a whole one
        first_is_free.set()
        return await large

    assert asyncio.run(run()).ravel().tolist() == [0, 1, 2, 3, 4]
    assert batches == [[0, 1], [2, 3], [4]]


@pytest.mark.parametrize("seconds", [0.0, 0.003])
def test_only_a_quick_engine_works_in_the_thread_of_the_loop(seconds):
    threads = []

    def engine(batch):
        threads.append(threading.current_thread())
        time.sleep(seconds)
        return batch.reshape(-1, 1).astype(np.float32)

    async def run():
        batcher = Batcher(engine)
        for n in range(20):
            assert await batcher.predict(images(n)) == n
        return threading.current_thread()

    loop = asyncio.run(run())
    assert threads[0] is not loop  # nothing is known about it yet
    assert (loop in threads) == (seconds == 0)


def test_an_engine_that_gets_slow_leaves_the_thread_of_the_loop(monkeypatch):
    threads, clock = [], [0.0]
    monkeypatch.setattr(batcher_module, "perf_counter", lambda: clock[0])

    def engine(batch):
        threads.append(threading.current_thread())
        clock[0] += 0.0004 if len(threads) <= 20 else 0.003
        return batch.reshape(-1, 1).astype(np.float32)

    async def run():
        batcher = Batcher(engine)
        for n in range(40):
            await batcher.predict(images(n))
        return threading.current_thread()

    loop = asyncio.run(run())
    inside = [thread is loop for thread in threads]
    # One that took long, as others had the cores, does not count at once: 5 % for each.
    assert inside == [False] + [True] * 24 + [False] * 15
    assert 0.0004 * 1.05**4 < 0.0005 < 0.0004 * 1.05**5


def test_what_is_left_of_a_request_that_failed_is_not_begun():
    engine = Engine()

    async def run():
        batcher = Batcher(engine, max_batch=2)
        with pytest.raises(ValueError, match="13"):
            await batcher.predict(images(13, 1, 2, 3, 4, 5))
        assert (await batcher.predict(images(77))).item() == 77

    asyncio.run(run())
    # 0: whether the engine fails at a black image too.
    assert engine.batches == [[13, 1], [0], [77]]


def test_a_failing_engine_is_asked_once_in_a_while(monkeypatch):
    asked, later = [], []

    def engine(batch):
        asked.append(batch.ravel().tolist())
        if len(asked) <= 7:
            raise ValueError("no memory")
        return batch.reshape(-1, 1).astype(np.float32)

    async def run():
        batcher = Batcher(engine)
        loop = asyncio.get_running_loop()
        monkeypatch.setattr(loop, "call_later", lambda *call: later.append(call))

        async def until(reached):
            async with asyncio.timeout(10):
                while not reached():
                    await asyncio.sleep(0)

        for n in (7, 8, 9):
            with pytest.raises(ValueError, match="memory"):
                await batcher.predict(images(n))
        assert [seconds for seconds, _ in later] == [batcher_module._LOOK_AGAIN_S]
        later[0][1]()
        await until(lambda: len(later) == 2)
        assert batcher.failing
        later[1][1]()
        await until(lambda: not batcher.failing)

    asyncio.run(run())
    assert len(later) == 2
    assert asked == [[7], [0], [8], [0], [9], [0], [0], [0]]


def test_requests_read_in_one_turn_of_the_loop_are_one_batch():
    engine = Engine()

    async def run():
        batcher = Batcher(engine)
        return await asyncio.gather(*(batcher.predict(images(n)) for n in range(5)))

    asyncio.run(run())
    assert engine.batches == [[0, 1, 2, 3, 4]]
