"""What torch says of a training that cannot be: too large for the memory, or settings that its arithmetic refuses."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from stylematch.errors import UserError
from stylematch.settings.train import TrainJob

# By a part of torch's sentence.
_NO_MEMORY = (
    "can't allocate memory",
    "not enough memory",
    "out of memory",
    "Cannot allocate memory",
    "Unable to allocate",
    "bad_alloc",
)
_ONE_VALUE = "Expected more than 1 value per channel"
_TOO_LARGE = "without overflow"


def too_large(job: TrainJob, needed: str) -> UserError:
    """Return what a training is refused with that needs so much memory."""
    return UserError(
        f"the training needs {needed}: lower schedule.batch_size ({job.schedule.batch_size}) or model.input_px "
        f"({job.model.input_px}), or take a smaller model"
    )


@contextmanager
def told_by_their_keys(job: TrainJob) -> Iterator[None]:
    """Turn such an error of the block into a sentence that names the settings to change.

    Raises
    ------
    UserError
        The same command would fail again.
    """
    try:
        yield
    except (RuntimeError, ValueError, MemoryError) as error:  # torch's OutOfMemoryError is the first
        said = str(error)
        schedule, model = job.schedule, job.model
        if isinstance(error, MemoryError) or any(words in said for words in _NO_MEMORY):
            raise too_large(job, "more memory than there is") from error
        if _ONE_VALUE in said:
            each = f" for each of {schedule.devices} devices" if schedule.devices > 1 else ""
            raise UserError(
                f"schedule.batch_size: {schedule.batch_size} leaves too few pictures{each}: the network's "
                f"normalisation needs more than one value at a time; raise it, or model.input_px ({model.input_px})"
            ) from error
        if _TOO_LARGE in said:
            raise UserError(
                f"schedule.learning_rate ({schedule.learning_rate:g}) or weight_decay ({schedule.weight_decay:g}) is "
                "beyond what 32 bits hold; lower it"
            ) from error
        raise
