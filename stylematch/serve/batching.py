"""Concurrent requests are scored together: one thread collects what waits and makes one call of it.

- A picture that comes first waits a few milliseconds for others; where more wait already, none waits.
- The room has a fixed number of places, taken before a picture is read, so memory has a bound and nothing queues for
  longer than it can wait: who finds the room full is told so at once.
- A request that was given up lets go of its picture at once, and is left out when its turn comes.
- Where a batch fails as a whole, its pictures are tried one by one, so that none falls with another.
"""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, InvalidStateError
from contextlib import contextmanager, suppress
from typing import Generic, TypeVar

Answer = TypeVar("Answer")


class RoomFullError(Exception):
    """There is no place for one more request."""


class Room:
    """Counts the requests in hand; used from one event loop.

    Parameters
    ----------
    places : int
        How many there may be.
    """

    def __init__(self, places: int) -> None:
        self.places, self.taken = places, 0

    @contextmanager
    def place(self) -> Iterator[None]:
        """Hold a place for the block.

        Raises
        ------
        RoomFullError
            If all are taken.
        """
        if self.taken >= self.places:
            raise RoomFullError
        self.taken += 1
        try:
            yield
        finally:
            self.taken -= 1


class _Question(Generic[Answer]):
    """A picture for as long as an answer to it is wanted and not there."""

    def __init__(self, picture: bytes) -> None:
        self.picture: bytes | None = picture
        self.answer: Future[Answer] = Future()
        self.answer.add_done_callback(self._let_go)

    def _let_go(self, _: Future[Answer]) -> None:
        self.picture = None  # its place in the room is free now, so that the queue may not keep it


class Batcher(Generic[Answer]):
    """Answers questions in batches, in a thread of its own.

    Parameters
    ----------
    work : callable
        Takes a list of pictures, returns as many answers.
    batch_pictures : int
        Pictures of one call at most.
    batch_wait_ms : float
        How long the first waits for others.
    on_batch : callable, optional
        Told, after each call, how many pictures it had and how many seconds it took.
    """

    def __init__(
        self,
        work: Callable[[Sequence[bytes]], Sequence[Answer]],
        *,
        batch_pictures: int,
        batch_wait_ms: float,
        on_batch: Callable[[int, float], None] = lambda _pictures, _seconds: None,
    ) -> None:
        self._work, self._on_batch = work, on_batch
        self._batch_pictures, self._wait_s = batch_pictures, batch_wait_ms / 1000
        self._waiting: queue.SimpleQueue[_Question[Answer] | None] = queue.SimpleQueue()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="stylematch-batcher", daemon=True)
        self._thread.start()

    @property
    def is_open(self) -> bool:
        """Whether it takes questions."""
        return self._thread.is_alive() and not self._closing

    async def ask(self, picture: bytes) -> Answer:
        """Return the answer for a picture; may be cancelled while it waits.

        Raises
        ------
        Exception
            Whatever the work raised for this picture.
        """
        if not self.is_open:
            raise RuntimeError("the batcher is closed")
        question: _Question[Answer] = _Question(picture)
        self._waiting.put(question)
        return await asyncio.wrap_future(question.answer)

    def close(self) -> None:
        """Answer what waits, then end; returns when that is done."""
        self._closing = True
        self._waiting.put(None)
        self._thread.join()

    def _run(self) -> None:
        is_last = False
        while not is_last and (first := self._waiting.get()) is not None:
            batch = [first]
            try:
                is_last = self._collect(batch)
                wanted = [question for question in batch if question.answer.set_running_or_notify_cancel()]
                if wanted:
                    self._answer(wanted)
            except Exception as error:  # whatever it is, those who come later still need this thread
                for question in batch:
                    with suppress(InvalidStateError):  # answered already, or given up
                        question.answer.set_exception(error)

    def _collect(self, batch: list[_Question[Answer]]) -> bool:
        """Add to the first what comes in time, and return whether nothing comes after it."""
        until = time.monotonic() + self._wait_s
        while len(batch) < self._batch_pictures:
            try:
                more = self._waiting.get(timeout=max(0.0, until - time.monotonic()))
            except queue.Empty:
                break
            if more is None:
                return True
            batch.append(more)
        return False

    def _answer(self, batch: list[_Question[Answer]]) -> None:
        started = time.perf_counter()
        try:
            answers = self._work([question.picture for question in batch if question.picture is not None])
        except Exception as error:
            if len(batch) == 1:
                batch[0].answer.set_exception(error)
                return
            for one in batch:
                self._answer([one])
            return
        self._on_batch(len(batch), time.perf_counter() - started)
        for question, answer in zip(batch, answers, strict=True):
            question.answer.set_result(answer)
