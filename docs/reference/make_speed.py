"""Write the promises of speed and memory into docs/test-matrix.md, each with what its benchmark measured.

The figures are those of ``benchmarks/results``; ``make reference-pages`` runs this, and a test holds the page to it.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[2]
PAGE = REPOSITORY / "docs" / "test-matrix.md"
RESULTS = REPOSITORY / "benchmarks" / "results"
START, END = "<!-- speed: made by make reference-pages -->", "<!-- speed end -->"


@dataclass(frozen=True)
class Promise:
    """One promise: the benchmark that measures it, the figure in its result, how that is shown, and its bounds.

    A figure that the benchmark could not learn on its machine is None.
    """

    what: str
    benchmark: str
    figure: Callable[[Any], float | None]
    shown: str
    least: float | None = None
    most: float | None = None


PROMISES = (
    Promise(
        "wild photos: `score` reaches 85 % of the limit of its stages alone",
        "score_speed",
        lambda r: r["wild"]["limit_reached"],
        "{:.1%}",
        least=0.85,
    ),
    Promise("aligned faces: likewise", "score_speed", lambda r: r["aligned"]["limit_reached"], "{:.1%}", least=0.85),
    *(
        Promise(
            f"the same of {name} on 10,000, of whose time start-up is little{how}",
            "score_speed",
            lambda r, part=part, run=run: r[part][run]["limit_reached"],
            "{:.1%}",
            least=0.85,
        )
        for part, name in (("wild", "wild photos"), ("aligned", "aligned faces"))
        for run, how in (("many", ""), ("many_tables", ", and without the gallery"))
    ),
    Promise(
        "wild photos: 110 a second", "score_speed", lambda r: r["wild"]["photos_per_s"], "{:,.1f} a second", least=110
    ),
    Promise(
        "aligned faces: 250 a second",
        "score_speed",
        lambda r: r["aligned"]["photos_per_s"],
        "{:,.1f} a second",
        least=250,
    ),
    Promise(
        "`embed` of Fashion-MNIST reaches 85 % of what the garment encoder does alone",
        "score_speed",
        lambda r: r["fashion_mnist"]["limit_reached"],
        "{:.1%}",
        least=0.85,
    ),
    *(
        Promise(
            f"{times} times as fast as {other}",
            "beside_others",
            lambda r, name=name: r["ratios"][name],
            "{:.1f} times",
            least=times,
        )
        for name, other, times in (
            ("seed", "a loop like the notebooks' (VGG16, one by one)", 100),
            ("dataloader", "a torchvision data loader with eager torch and the same backbone", 5),
            ("clip-retrieval", "`clip-retrieval inference` with a comparable backbone", 8),
        )
    ),
    Promise(
        "photos of 12 megapixels: decoded 8 times as fast as by Pillow in full",
        "megapixels",
        lambda r: r["decode_ratio"],
        "{:.1f} times",
        least=8,
    ),
    Promise(
        "from the start of `score` to the first decoded photo: under 2 s",
        "megapixels",
        lambda r: r["first_decoded_s"],
        "{:.2f} s",
        most=2,
    ),
    Promise("`--help`: under 0.5 s", "megapixels", lambda r: r["help_s"], "{:.2f} s", most=0.5),
    Promise(
        "50,000 photos: the peak of memory within 10 % of that of 2,000",
        "memory",
        lambda r: r["peak_ratio"] - 1,
        "{:+.1%}",
        most=0.10,
    ),
    Promise(
        "50,000 photos: a photo takes at most 5 % longer than of 2,000",
        "memory",
        lambda r: r["time_ratio"] - 1,
        "{:+.1%}",
        most=0.05,
    ),
    Promise(
        "a GPU: 10,000 CelebA pictures a second from JPEG files to embeddings",
        "gpu_embed",
        lambda r: r["pictures_per_s"],
        "{:,.0f} a second",
        least=10_000,
    ),
    Promise(
        "a GPU: its busy share, meanwhile, is measured",
        "gpu_embed",
        lambda r: r["gpu_busy_share"],
        "{:.1%}",
    ),
    Promise(
        "a GPU: the time for all 202,599 CelebA pictures is measured",
        "gpu_embed",
        lambda r: r["all_of_celeba_s"],
        "{:.1f} s",
    ),
    Promise(
        "a GPU: an epoch of `celeba-vgg16` from JPEG files at 60 % of the rate on synthetic tensors",
        "train_throughput",
        lambda r: r["ratio"],
        "{:.1%}",
        least=0.60,
    ),
    Promise(
        "what Ray costs a further photo beside the local engine is measured",
        "ray_overhead",
        lambda r: _further(r, "ray") / _further(r, "local") - 1,
        "{:+.1%} of the clock",
    ),
)


def _further(result: Any, engine: str) -> float:
    few, many = result["few"], result["many"]
    return (many[f"{engine}_wall_s"] - few[f"{engine}_wall_s"]) / (many["photos"] - few["photos"])


def table(results: Path = RESULTS) -> str:
    """Return the promises with their figures as a table in Markdown."""
    lines = ["| promise | benchmark | measured |", "| --- | --- | --- |"]
    return "\n".join([*lines, *(_row(promise, results / f"{promise.benchmark}.json") for promise in PROMISES)])


def _row(promise: Promise, path: Path) -> str:
    named = f"| {promise.what} | `benchmarks/{promise.benchmark}.py` |"
    if not path.is_file():
        return f"{named} no result in this checkout |"
    figure = promise.figure(json.loads(path.read_text(encoding="utf-8")))
    if figure is None:
        return f"{named} not known |"
    missed = (promise.least is not None and figure < promise.least) or (
        promise.most is not None and figure > promise.most
    )
    return f"{named} {promise.shown.format(figure)}{': **missed**' if missed else ''} |"


def filled(page: str) -> str:
    """Return the page with the table between its two marks."""
    before, _, rest = page.partition(START)
    return f"{before}{START}\n\n{table()}\n\n{END}{rest.partition(END)[2]}"


if __name__ == "__main__":
    PAGE.write_text(filled(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
