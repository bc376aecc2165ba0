"""Concurrent questions are answered together: who shares a batch, who is left out, and what a failure takes with it."""

import asyncio
import gc
import threading
import weakref

import pytest

from stylematch.serve.batching import Batcher, Room, RoomFullError


class Work:
    """Upper-cases; notes its batches; waits for leave; fails for what it is told to."""

    def __init__(self) -> None:
        self.batches: list[list[bytes]] = []
        self.leave = threading.Event()
        self.begun = threading.Event()

    def __call__(self, pictures):
        self.batches.append(list(pictures))
        self.begun.set()
        assert self.leave.wait(30)
        if b"bad" in pictures:
            raise ValueError("bad")
        return [picture.upper() for picture in pictures]


@pytest.fixture
def work():
    return Work()


def batcher_of(work, pictures=4, wait_ms=0.0) -> Batcher:
    return Batcher(work, batch_pictures=pictures, batch_wait_ms=wait_ms)


async def ask_behind(batcher, work, questions):
    """Ask the first; once it is being answered, ask the others; then let the work go on."""
    tasks = [asyncio.create_task(batcher.ask(questions[0]))]
    await asyncio.to_thread(work.begun.wait)
    tasks += [asyncio.create_task(batcher.ask(question)) for question in questions[1:]]
    await asyncio.sleep(0)
    return tasks


def test_what_waits_is_answered_together(work):
    async def run():
        batcher = batcher_of(work)
        tasks = await ask_behind(batcher, work, [b"a", b"b", b"c", b"d", b"e", b"f"])
        work.leave.set()
        answers = await asyncio.gather(*tasks)
        batcher.close()
        return answers

    assert asyncio.run(run()) == [b"A", b"B", b"C", b"D", b"E", b"F"]
    assert work.batches == [[b"a"], [b"b", b"c", b"d", b"e"], [b"f"]]


def test_the_first_waits_a_little_for_others(work):
    async def run():
        batcher = batcher_of(work, pictures=2, wait_ms=20_000)  # ended by the second's coming
        work.leave.set()
        tasks = [asyncio.create_task(batcher.ask(b"a"))]
        await asyncio.sleep(0.05)
        tasks.append(asyncio.create_task(batcher.ask(b"b")))
        answers = await asyncio.gather(*tasks)
        batcher.close()
        return answers

    assert asyncio.run(run()) == [b"A", b"B"]
    assert work.batches == [[b"a", b"b"]]


def test_who_gave_up_is_left_out(work):
    async def run():
        batcher = batcher_of(work)
        tasks = await ask_behind(batcher, work, [b"a", b"b", b"c"])
        tasks[1].cancel()
        await asyncio.sleep(0)
        work.leave.set()
        answers = await asyncio.gather(*tasks, return_exceptions=True)
        batcher.close()
        return answers

    first, second, third = asyncio.run(run())
    assert (first, third) == (b"A", b"C")
    assert isinstance(second, asyncio.CancelledError)
    assert work.batches == [[b"a"], [b"c"]]


class Picture(bytearray):
    """One that can be looked at weakly, as bytes cannot."""


def test_who_gave_up_leaves_no_picture_behind(work):
    async def run():
        batcher = batcher_of(work)
        picture = Picture(b"b")
        seen = weakref.ref(picture)
        tasks = await ask_behind(batcher, work, [b"a", picture])
        del picture
        tasks[1].cancel()
        await asyncio.wait(tasks[1:])
        await asyncio.sleep(0)
        tasks.pop()
        gc.collect()
        is_kept = seen() is not None  # while the first is still being answered
        work.leave.set()
        await asyncio.gather(*tasks)
        batcher.close()
        return is_kept

    assert not asyncio.run(run())


def test_a_failure_beside_the_work_ends_no_thread(work):
    work.leave.set()
    failures = [OverflowError("out of range")]

    def on_batch(_pictures, _seconds):
        if failures:
            raise failures.pop()

    async def run():
        batcher = Batcher(work, batch_pictures=4, batch_wait_ms=0, on_batch=on_batch)
        first = await asyncio.gather(batcher.ask(b"a"), return_exceptions=True)
        later = await batcher.ask(b"b")
        batcher.close()
        return first, later

    (first,), later = asyncio.run(asyncio.wait_for(run(), 30))
    assert isinstance(first, OverflowError)
    assert later == b"B"


def test_a_failure_takes_nobody_with_it(work):
    async def run():
        batcher = batcher_of(work)
        tasks = await ask_behind(batcher, work, [b"a", b"b", b"bad", b"c"])
        work.leave.set()
        answers = await asyncio.gather(*tasks, return_exceptions=True)
        assert await batcher.ask(b"later") == b"LATER"
        batcher.close()
        return answers

    first, second, bad, third = asyncio.run(run())
    assert (first, second, third) == (b"A", b"B", b"C")
    assert isinstance(bad, ValueError)


def test_closing_answers_what_waits_and_takes_no_more(work):
    async def run():
        batcher = batcher_of(work)
        tasks = await ask_behind(batcher, work, [b"a", b"b", b"c"])
        assert batcher.is_open
        closing = asyncio.create_task(asyncio.to_thread(batcher.close))
        await asyncio.sleep(0.05)
        assert not batcher.is_open
        with pytest.raises(RuntimeError, match="closed"):
            await batcher.ask(b"late")
        work.leave.set()
        await closing
        return await asyncio.gather(*tasks)

    assert asyncio.run(run()) == [b"A", b"B", b"C"]


def test_a_room_has_its_places_back_whatever_happens():
    room = Room(2)
    with room.place(), room.place():
        assert room.taken == 2
        with pytest.raises(RoomFullError), room.place():
            pass
    with pytest.raises(ZeroDivisionError), room.place():
        raise ZeroDivisionError
    assert room.taken == 0
