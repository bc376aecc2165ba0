"""Answer over HTTP."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from stylematch.cli.interrupts import interrupt_heard
from stylematch.cli.options import (
    DeviceOption,
    FacesOption,
    ItemColumnsOption,
    MaxFileOption,
    MaxMegapixelsOption,
    MinFaceOption,
    PartsOption,
    ScoreRulesOption,
    TopKOption,
    WhereOption,
    WithoutOption,
    all_of,
    names_in,
)
from stylematch.errors import MissingExtraError

app = typer.Typer()


@app.command()
def serve(
    index: PartsOption = None,
    host: Annotated[str, typer.Option(metavar="HOST", help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, metavar="N", help="The port; 0 is any free one.")] = 8000,
    allowed_host: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME", help="A name by which it may be addressed; repeatable. On loopback only loopback's names."
        ),
    ] = None,
    run: Annotated[
        Path | None, typer.Option(metavar="OUT", help="A finished run, whose gallery is shown under /gallery/.")
    ] = None,
    rules: ScoreRulesOption = None,
    without: WithoutOption = None,
    top_k: TopKOption = 5,
    where: WhereOption = None,
    item_columns: ItemColumnsOption = None,
    faces: FacesOption = "find",
    device: DeviceOption = "auto",
    min_face_px: MinFaceOption = 24,
    max_megapixels: MaxMegapixelsOption = 50.0,
    max_file_mb: MaxFileOption = 20.0,
    max_waiting: Annotated[
        int, typer.Option(min=1, metavar="N", help="Pictures in hand at once; one more is told to come later (503).")
    ] = 64,
    batch_pictures: Annotated[
        int, typer.Option(min=1, metavar="N", help="Pictures scored in one go at most; changes no answer.")
    ] = 16,
    batch_wait_ms: Annotated[
        float, typer.Option(min=0, max=60_000, metavar="X", help="How long a picture waits for others to come.")
    ] = 3.0,
    upload_timeout_s: Annotated[
        float, typer.Option(metavar="X", help="How long a picture may take to arrive (408).")
    ] = 30.0,
    timeout_s: Annotated[float, typer.Option(metavar="X", help="How long it may take to be scored (504).")] = 30.0,
) -> None:
    """Serve over HTTP: a picture in; faces, styles and items out. A page for people is at /."""
    from stylematch.settings.faults import OPTIONS
    from stylematch.settings.load import validated
    from stylematch.settings.score import ScoreSettings
    from stylematch.settings.serve import ServeSettings

    try:
        from stylematch.serve.server import serve as listen
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("stylematch"):
            raise
        raise MissingExtraError("Serving", "serve") from error

    scoring = validated(
        ScoreSettings,
        OPTIONS,
        rules=rules,
        without=names_in(without),
        top_k=top_k,
        where=all_of(where),
        item_columns=names_in(item_columns),
        faces=faces,
        device=device,
        min_face_px=min_face_px,
        max_megapixels=max_megapixels,
        max_file_mb=max_file_mb,
    )
    serving = validated(
        ServeSettings,
        OPTIONS,
        host=host,
        port=port,
        allowed_hosts=tuple(allowed_host or ()),
        run=run,
        max_waiting=max_waiting,
        batch_pictures=batch_pictures,
        batch_wait_ms=batch_wait_ms,
        upload_timeout_s=upload_timeout_s,
        timeout_s=timeout_s,
    )
    listen(scoring, serving, index or [], on_ready=lambda address: typer.echo(f"serving on {address}"))
    interrupt_heard()  # to stop is how a service ends
