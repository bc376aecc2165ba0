"""Train models, measure them, and let one predict."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from stylematch.cli.options import (
    AddressOption,
    BatchSizeOption,
    DeviceOption,
    EngineOption,
    FashionMnistOption,
    FollowLinksOption,
    LimitOption,
    MaxFileOption,
    MaxMegapixelsOption,
    MinFaceOption,
    OverridesOption,
    PhotosArgument,
    PhotoTimeoutOption,
    RunOutOption,
    photos_path,
)

app = typer.Typer()


@app.command()
def train(
    job: Annotated[Path, typer.Argument(metavar="JOB.toml", help="The job file.")],
    overrides: OverridesOption = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would be trained, on how much, and how long it takes.")
    ] = False,
    smoke: Annotated[
        bool, typer.Option("--smoke", help="Try the job: a few steps on a few small pictures, no pretrained weights.")
    ] = False,
    root: Annotated[Path | None, typer.Option(metavar="DIR", help="The folder that holds CelebA's folders.")] = None,
    fashion_mnist: FashionMnistOption = None,
) -> None:
    """Train a model from a job file and write its bundle; an unfinished training is gone on with."""
    from stylematch.pipelines.learning.train import train as run
    from stylematch.pipelines.learning.train_job import begin_anew, begins_anew, read_train_job

    read = read_train_job(job, overrides or (), smoke=smoke, celeba=root, fashion_mnist=fashion_mnist)
    if dry_run:
        from stylematch.pipelines.learning.dry_run import describe_training

        lines = describe_training(read, anew=smoke and begins_anew(read))
    else:
        if smoke:
            begin_anew(read)
        lines = iter(run(read, job).lines())
    for line in lines:
        typer.echo(line)


@app.command()
def evaluate(
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE", help="A model bundle.")],
    data: Annotated[
        str, typer.Argument(metavar="DATA", help="A labelled folder, a data set's name, or a table (.csv, .parquet).")
    ],
    out: Annotated[Path, typer.Option(metavar="OUT", help="Where figures, card and plots go.")] = Path(
        "stylematch-evaluation"
    ),
    split: Annotated[
        Literal["train", "val", "test", "all"],
        typer.Option(
            help="Which part; of garments and of your own, test is what the bundle did not learn from. A CelebA folder "
            "without test pictures is measured whole."
        ),
    ] = "test",
    faces: Annotated[
        Literal["aligned", "find"], typer.Option(help="Pictures are face crops, or whole photos to search for faces.")
    ] = "aligned",
    images: Annotated[
        Path | None, typer.Option(metavar="DIR", help="The folder of a table's pictures; by default the table's.")
    ] = None,
    image_column: Annotated[
        str | None, typer.Option(metavar="NAME", help="A table's column of pictures; by default image.")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, metavar="N", help="Only the first so many pictures.")] = None,
    device: DeviceOption = "cpu",
) -> None:
    """Measure a model on labelled pictures: figures with intervals, a model card, plots."""
    from stylematch.pipelines.learning.evaluate import evaluate as run

    summary = run(
        bundle,
        data,
        out,
        split=split,
        faces=faces,
        images=images,
        image_column=image_column,
        limit=limit,
        device=device,
    )
    for line in summary.lines():
        typer.echo(line)


@app.command("evaluate-recs")
def evaluate_recs(
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where report.json, report.md and plots go.")] = Path(
        "stylematch-recs"
    ),
    garments: Annotated[
        Path | None, typer.Option(metavar="BUNDLE", help="The garment encoder; by default the shipped one.")
    ] = None,
    fashion_mnist: FashionMnistOption = None,
    fashion_product: Annotated[
        Path | None, typer.Option(metavar="DIR", help="The folder of Fashion Product Images.")
    ] = None,
    run: Annotated[Path | None, typer.Option(metavar="OUT", help="A run of score, whose lists are measured.")] = None,
    index: Annotated[
        list[Path] | None, typer.Option(metavar="DIR", help="What that run was given as --index; repeatable.")
    ] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Only the first so many pictures of each part.")
    ] = None,
) -> None:
    """Measure retrieval and a run's lists beside baselines: one report with intervals and plots."""
    from stylematch.pipelines.recs.evaluate_recs import evaluate_recs as measure

    summary = measure(
        out,
        garments=garments,
        fashion_mnist=fashion_mnist,
        fashion_product=fashion_product,
        run=run,
        indexes=index or (),
        limit=limit,
    )
    for line in summary.lines():
        typer.echo(line)


@app.command()
def predict(
    bundle: Annotated[
        Path, typer.Argument(metavar="BUNDLE", help="A model bundle, such as indexes/default/attributes.")
    ],
    photos: PhotosArgument,
    out: RunOutOption = Path("stylematch-predictions"),
    faces: Annotated[
        Literal["find", "aligned"] | None,
        typer.Option(help="For a model of faces: search for them (the default), or take each picture for a face crop."),
    ] = None,
    invert: Annotated[
        bool, typer.Option("--invert", help="For a model of grey pictures: swap dark and light.")
    ] = False,
    limit: LimitOption = None,
    batch_size: BatchSizeOption = 64,
    device: DeviceOption = "auto",
    engine: EngineOption = "local",
    address: AddressOption = None,
    sheet: Annotated[bool, typer.Option(help="Draw the contact sheet.")] = True,
    min_face_px: MinFaceOption = 24,
    max_megapixels: MaxMegapixelsOption = 200.0,
    max_file_mb: MaxFileOption = 200.0,
    photo_timeout_s: PhotoTimeoutOption = 60.0,
    follow_links: FollowLinksOption = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Predict again what is already there.")] = False,
) -> None:
    """Write what one model says of a directory of photos, as Parquet, with a contact sheet."""
    from stylematch.pipelines.predict import predict as run
    from stylematch.settings.faults import OPTIONS
    from stylematch.settings.load import validated
    from stylematch.settings.predict import PredictSettings

    settings = validated(
        PredictSettings,
        OPTIONS,
        faces=faces,
        invert=invert,
        limit=limit,
        batch_size=batch_size,
        device=device,
        engine=engine,
        address=address,
        sheet=sheet,
        min_face_px=min_face_px,
        max_megapixels=max_megapixels,
        max_file_mb=max_file_mb,
        photo_timeout_s=photo_timeout_s,
        follow_links=follow_links,
        overwrite=overwrite,
    )
    for line in run(bundle, photos_path(photos), out, settings).lines():
        typer.echo(line)
