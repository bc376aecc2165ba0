"""How sure a figure is: percentile bootstrap over pictures, corrected for its median bias.

A resample draws as many pictures as there are, with replacement; the figure is computed of each of 1,000 resamples,
and the 2.5th and the 97.5th percentile of these are 95 % apart (Efron, "Bootstrap Methods: Another Look at the
Jackknife", Annals of Statistics 7, 1979). Some figures are biased under resampling: pictures that are drawn twice
resemble each other, so a calibration error grows, and all resamples may lie above the figure itself. What the
bias-corrected percentile interval corrects for is how far the resamples' median is from the figure (Efron,
"Nonparametric Standard Errors and Confidence Intervals", Canadian Journal of Statistics 9, 1981); its percentiles are
undefined where all resamples are on one side, so both ends are moved by that distance instead. The figure is therefore
always within its interval; where the median is the figure, nothing is moved.

A resample is a row of multinomial weights, how often each picture was drawn, so a metric that takes weights does many
resamples in a few matrix products. Labels of one picture stay together, as they must: they are not independent.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import numpy as np
import numpy.typing as npt

RESAMPLES = 1000
SEED = 0
_BLOCK = (
    1 << 17
)  # weights at a time, 512 KiB: what is made of them stays in a processor's cache (8 MiB takes 30 times as long)

Weights = npt.NDArray[np.float32]


def bootstrap(
    scores: Callable[[Weights], Mapping[str, npt.NDArray[np.float64]]],
    count: int,
    *,
    bounds: tuple[float, float] = (-np.inf, np.inf),
    resamples: int = RESAMPLES,
    seed: int = SEED,
) -> dict[str, list[float] | None]:
    """Return the 95 % interval of each score.

    Parameters
    ----------
    scores : callable
        Takes weights, float32 (m, count), and returns m values by name, float64 (m,), NaN where a resample has none.
    count : int
        Number of pictures.
    bounds : tuple of float
        The least and the greatest value that a score can have; no interval leaves them.
    resamples : int
        How many to draw.
    seed : int
        Equal seeds give equal intervals.

    Returns
    -------
    dict of str to list of two floats, or None
        The score of the pictures themselves is between them; None where it, or every resample, has no value, as
        without any picture.
    """
    itself = scores(np.ones((1, count), np.float32))
    blocks = [scores(weights) for weights in _draw(count, resamples, np.random.default_rng(seed))]
    intervals: dict[str, list[float] | None] = {}
    for name, (figure, *_) in itself.items():
        values = np.concatenate([block[name] for block in blocks]) if blocks else np.empty(0)
        values = values[np.isfinite(values)]
        if not len(values) or not np.isfinite(figure):
            intervals[name] = None
            continue
        low, median, high = np.quantile(values, (0.025, 0.5, 0.975))
        ends = np.clip([low - median + figure, high - median + figure], *bounds)
        intervals[name] = [round(float(end), 4) for end in ends]
    return intervals


def _draw(count: int, resamples: int, rng: np.random.Generator) -> Iterator[Weights]:
    """Yield the weights of all resamples, block by block; none where there is no picture to draw."""
    size = max(16, _BLOCK // max(1, count))
    for start in range(0, resamples if count else 0, size):
        weights = np.empty((min(size, resamples - start), count), np.float32)
        for row in weights:
            row[:] = np.bincount(rng.integers(count, size=count), minlength=count)
        yield weights
