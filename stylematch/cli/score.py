"""Score photos and query what was written."""

from __future__ import annotations

import sys
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Annotated, Literal

import typer

from stylematch.cli.options import (
    AddressOption,
    BatchSizeOption,
    DeviceOption,
    EngineOption,
    FacesOption,
    FollowLinksOption,
    ItemColumnsOption,
    LimitOption,
    MaxFileOption,
    MaxMegapixelsOption,
    MinFaceOption,
    PartsOption,
    PhotosArgument,
    PhotoTimeoutOption,
    RunOutOption,
    ScoreRulesOption,
    TopKOption,
    WhereOption,
    WithoutOption,
    WorkersOption,
    all_of,
    names_in,
    photos_path,
)
from stylematch.pipelines import SCORING

app = typer.Typer()


@app.command()
def score(
    photos: PhotosArgument,
    out: RunOutOption = Path("stylematch-out"),
    top_k: TopKOption = 5,
    index: PartsOption = None,
    rules: ScoreRulesOption = None,
    without: WithoutOption = None,
    faces: FacesOption = "find",
    device: DeviceOption = "auto",
    batch_size: BatchSizeOption = 64,
    workers: WorkersOption = 0,
    engine: EngineOption = "local",
    address: AddressOption = None,
    limit: LimitOption = None,
    where: WhereOption = None,
    item_columns: ItemColumnsOption = None,
    weight_similarity: Annotated[
        float, typer.Option(metavar="X", help="How much it counts that an item looks like what is worn.")
    ] = 0.6,
    weight_tags: Annotated[
        float, typer.Option(metavar="X", help="How much it counts that an item's tags fit the style.")
    ] = 0.3,
    weight_category: Annotated[
        float, typer.Option(metavar="X", help="How much the order of a style's categories counts.")
    ] = 0.1,
    mmr_lambda: Annotated[float, typer.Option(metavar="X", help="1: the best scores alone; 0: variety alone.")] = 0.8,
    seed: Annotated[int, typer.Option(metavar="N", help="Another seed, another choice among near-equal items.")] = 0,
    report: Annotated[bool, typer.Option(help="Write the gallery.")] = True,
    min_face_px: MinFaceOption = 24,
    max_megapixels: MaxMegapixelsOption = 200.0,
    max_file_mb: MaxFileOption = 200.0,
    photo_timeout_s: PhotoTimeoutOption = 60.0,
    follow_links: FollowLinksOption = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Score again what is already there.")] = False,
    profile: Annotated[
        bool, typer.Option("--profile", help="Print how busy each stage was and how near the run came to its limit.")
    ] = False,
    max_reject_share: Annotated[
        float | None,
        typer.Option(min=0, max=1, metavar="X", help="Exit with code 4 if a larger share of the photos is rejected."),
    ] = None,
) -> None:
    """Score a directory of photos: faces, attributes, styles and items, as Parquet, with a gallery."""
    from stylematch.cli.streams import whether_heard_or_not
    from stylematch.engines.early import end_waiting, started_early

    folder = photos_path(photos)
    if engine == "local" and (workers != 1 or photo_timeout_s > 0):
        early: AbstractContextManager[None] = started_early(SCORING, folder, photo_timeout_s or None)
    else:
        end_waiting()
        early = nullcontext()
    with early:
        from stylematch.data.memory import imported_for_good
        from stylematch.errors import LimitExceededError
        from stylematch.tables.arrow import without_pandas_if_alone

        without_pandas_if_alone()
        with imported_for_good():
            from stylematch.pipelines.score import score as run
            from stylematch.settings.faults import OPTIONS
            from stylematch.settings.load import validated
            from stylematch.settings.score import ScoreSettings

        settings = validated(
            ScoreSettings,
            OPTIONS,
            top_k=top_k,
            rules=rules,
            without=names_in(without),
            faces=faces,
            device=device,
            batch_size=batch_size,
            workers=workers,
            engine=engine,
            address=address,
            limit=limit,
            where=all_of(where),
            item_columns=names_in(item_columns),
            weight_similarity=weight_similarity,
            weight_tags=weight_tags,
            weight_category=weight_category,
            mmr_lambda=mmr_lambda,
            seed=seed,
            report=report,
            min_face_px=min_face_px,
            max_megapixels=max_megapixels,
            max_file_mb=max_file_mb,
            photo_timeout_s=photo_timeout_s,
            follow_links=follow_links,
            overwrite=overwrite,
            max_reject_share=max_reject_share,
        )
        try:
            summary = run(folder, out, settings, index or [])
        except LimitExceededError as error:
            if profile:
                error.lines += error.profile
            raise
    with whether_heard_or_not(sys.stdout):
        for line in [*summary.lines(), *(summary.profile if profile else ())]:
            typer.echo(line)
        sys.stdout.flush()


@app.command()
def query(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="A run's directory, or a root of nightly snapshots.")],
    sql: Annotated[str, typer.Argument(metavar="SQL", help="One SELECT; SHOW TABLES lists what can be asked.")],
    index: Annotated[
        list[Path] | None,
        typer.Option(metavar="DIR", help="The index that the run used, for items and gallery_faces; as for score."),
    ] = None,
    output_format: Annotated[
        Literal["table", "csv", "json"], typer.Option("--format", help="A table for people; csv and json are complete.")
    ] = "table",
) -> None:
    """Query a run's tables, or those of all nights, with SQL (DuckDB), read-only."""
    from stylematch.cli.logs import say
    from stylematch.cli.streams import whether_heard_or_not, write_utf8
    from stylematch.pipelines.query import open_run
    from stylematch.tables.query import run_query

    if output_format != "table":
        write_utf8()
    views = open_run(out, index or ())
    with whether_heard_or_not(sys.stderr):
        for warning in views.warnings:
            say(f"warning: {warning}", level="warning")
    run_query(views, sql, output_format=output_format, stream=sys.stdout)
