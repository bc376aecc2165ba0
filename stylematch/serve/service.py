"""What the routes share: a request's picture is taken in, scored in a batch and answered, or refused."""

from __future__ import annotations

import asyncio

import pyarrow as pa
from fastapi import Request

from stylematch.pipelines.scorer import Scorer, Tables
from stylematch.serve.answers import Answer, Refusal, answer_of
from stylematch.serve.batching import Batcher, Room, RoomFullError
from stylematch.serve.intake import Incoming, RefusedError, read_picture
from stylematch.serve.metrics import Metrics
from stylematch.settings.serve import ServeSettings
from stylematch.tables.contract import Reason, Status
from stylematch.tables.shown import shown

_STATUS_OF_REASON = {
    Reason.TOO_LARGE: 413,
    Reason.FILE_TOO_LARGE: 413,
    Reason.NOT_A_PICTURE: 415,
    Reason.UNSUPPORTED_FORMAT: 415,
}  # the others are 422
_RETRY_AFTER_S = 1


class Service:
    """What the routes share: the room, the batcher and the metrics."""

    def __init__(self, scorer: Scorer, settings: ServeSettings) -> None:
        self.settings = settings
        self.max_bytes = int(scorer.settings.max_file_mb * 1e6)
        self.attribute_names = scorer.adviser.attribute_names
        self.room = Room(settings.max_waiting)
        self.metrics = Metrics(lambda: self.room.taken)
        self.batcher: Batcher[Tables] = Batcher(
            scorer.score_pictures,
            batch_pictures=settings.batch_pictures,
            batch_wait_ms=settings.batch_wait_ms,
            on_batch=self.metrics.batch_done,
        )

    def close(self) -> None:
        """Score what waits, then end the worker."""
        self.batcher.close()

    async def score(self, request: Request) -> Answer:
        """Answer a request with a picture.

        Raises
        ------
        RefusedError
            If there is no answer.
        """
        incoming = Incoming(request, self.max_bytes)
        try:
            with self.room.place():
                picture = await read_picture(incoming, timeout_s=self.settings.upload_timeout_s)
                async with asyncio.timeout(self.settings.timeout_s):
                    tables = await self.batcher.ask(picture)
        except RoomFullError as error:
            await incoming.drain()
            message = f"{self.room.places} pictures are in hand already; send this one again a little later"
            raise RefusedError(503, Refusal.BUSY, message, {"Retry-After": str(_RETRY_AFTER_S)}) from error
        except TimeoutError as error:
            message = f"the picture was not scored in {self.settings.timeout_s:g} s"
            raise RefusedError(504, Refusal.TIMED_OUT, message) from error
        except RefusedError:
            await incoming.drain()
            raise
        return self._answer(tables)

    def _answer(self, tables: dict[str, pa.Table]) -> Answer:
        photo = tables["photos"].to_pylist()[0]
        if photo["status"] == Status.REJECTED:
            self.metrics.photos.labels(photo["status"], photo["reason"]).inc()
            reason = Reason(photo["reason"])
            raise RefusedError(_STATUS_OF_REASON.get(reason, 422), reason, shown(photo["message"] or reason))
        answer = answer_of(tables, self.attribute_names)
        self.metrics.answered(answer)
        return answer
