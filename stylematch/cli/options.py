"""Arguments and options that several commands take alike."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from stylematch.errors import UserError
from stylematch.tables.place import place_of
from stylematch.tables.shown import shown

PhotosArgument = Annotated[
    str, typer.Argument(metavar="PHOTOS", help="A directory of photos, searched recursively, or one picture.")
]
RunOutOption = Annotated[Path, typer.Option(metavar="OUT", help="Where the run goes.")]
PartsOption = Annotated[
    list[Path] | None,
    typer.Option(metavar="DIR", help="An index or collection that replaces parts of the default; repeatable."),
]
FacesOption = Annotated[
    Literal["find", "aligned"], typer.Option(help="Search for faces, or take each picture for a face crop.")
]
TopKOption = Annotated[int, typer.Option(min=1, max=1000, metavar="K", help="Items per face.")]
WhereOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="SQL",
        help='Only such items: a condition over their columns, as "price < 50"; repeatable: all hold.',
    ),
]
RulesOption = Annotated[str, typer.Option(metavar="NAME|FILE", help="A shipped rule set, or your own TOML file.")]
ScoreRulesOption = Annotated[
    str | None,
    typer.Option(
        metavar="NAME|FILE",
        help="A shipped rule set, or your own TOML file; by default wardrobe, or wardrobe-neutral with --without.",
    ),
]
WithoutOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME,...",
        help="Attributes to switch off, such as Male,Young: in no rule, no table, no gallery; repeatable.",
    ),
]
ItemColumnsOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME,...",
        help="Columns of the catalogue, such as title,price, to stand beside each item in recommendations; repeatable.",
    ),
]
DeviceOption = Annotated[
    Literal["auto", "cpu", "cpu-bf16", "cuda"],
    typer.Option(help="Where the model runs; cpu-bf16 is faster and less exact (openvino extra)."),
]
BatchSizeOption = Annotated[int, typer.Option(min=1, metavar="N", help="Photos a batch; changes no result.")]
WorkersOption = Annotated[
    int, typer.Option(min=0, metavar="N", help="Processes; 0 is one per core. Changes no result.")
]
LimitOption = Annotated[int | None, typer.Option(min=1, metavar="N", help="Only the first so many photos.")]
MinFaceOption = Annotated[
    int, typer.Option(min=1, metavar="N", help="Smallest face that counts, in pixels of the upright photo.")
]
MaxMegapixelsOption = Annotated[float, typer.Option(metavar="X", help="Reject photos that claim more pixels.")]
MaxFileOption = Annotated[float, typer.Option(metavar="X", help="Reject larger files.")]
EngineOption = Annotated[
    Literal["local", "ray"], typer.Option(help="Where partitions run: on this machine, or on Ray. Changes no result.")
]
AddressOption = Annotated[
    str | None, typer.Option(metavar="HOST:PORT", help="The Ray cluster's head; without, Ray is started here.")
]
PhotoTimeoutOption = Annotated[
    float, typer.Option(min=0, metavar="S", help="Reject photos that take longer, in seconds; 0 waits for ever.")
]
FollowLinksOption = Annotated[bool, typer.Option("--follow-links", help="Follow symbolic links among the photos.")]
OverridesOption = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change a key of the job; repeatable.")
]
MissingOkOption = Annotated[bool, typer.Option("--missing-ok", help="Pass over ids that are not there.")]
FashionMnistOption = Annotated[
    Path | None, typer.Option(metavar="DIR", help="The folder of Fashion-MNIST's IDX files.")
]


def photos_path(photos: str) -> Path:
    """Return PHOTOS, a path or a ``file://`` URL, as a path.

    Raises
    ------
    UserError
        It is empty, as an unset variable of a script is (a Path takes that for the current directory), or another URL.
    """
    if not photos:
        raise UserError("PHOTOS is empty: name a directory of photos")
    scheme, is_url, _ = photos.partition("://")
    if is_url and scheme != "file":
        raise UserError(
            f"PHOTOS '{shown(photos)}' is a URL: this command reads a folder of this machine; name one, or score a "
            'bucket\'s photos with export (photos = "s3://..." in jobs/nightly.toml)'
        )
    return place_of(photos, "PHOTOS").directory or Path(photos)


def all_of(conditions: list[str] | None) -> str | None:
    """Return the one condition that holds where all of some do; None where there is none."""
    if not conditions or len(conditions) == 1:
        return conditions[0] if conditions else None
    return " AND ".join(f"({condition})" for condition in conditions)


def names_in(lists: list[str] | None) -> str | tuple[()]:
    """Return lists of names, each with commas between, as one; none where nothing was given."""
    return ",".join(lists) if lists else ()
