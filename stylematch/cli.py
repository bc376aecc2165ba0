"""``stylematch-batch``: parse, call one pipeline, print.

No logic lives here, and nothing heavy is imported at start.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import traceback
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn

import typer

from stylematch import __version__
from stylematch.errors import StylematchError, UserError

app = typer.Typer(
    help="Batch, offline style recommender: photos in, faces, styles and fashion items out, as Parquet and FAISS.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
rules_app = typer.Typer(help="Rule sets: check one, apply one to labels, fit its pool.", no_args_is_help=True)
index_app = typer.Typer(help="Indexes: build one from embeddings, change it, say what it holds.", no_args_is_help=True)
catalog_app = typer.Typer(help="Catalogues: make one of your own items with their pictures.", no_args_is_help=True)
data_app = typer.Typer(help="Data sets: put one's label files together.", no_args_is_help=True)
merge_app = typer.Typer(help="Write a data set's label files as one table.", no_args_is_help=True)
app.add_typer(rules_app, name="rules")
app.add_typer(index_app, name="index")
app.add_typer(catalog_app, name="catalog")
app.add_typer(data_app, name="data")
data_app.add_typer(merge_app, name="merge")


# Options that several commands take alike.
PhotosArgument = Annotated[
    str, typer.Argument(metavar="PHOTOS", help="A directory of photos, searched recursively, or one picture.")
]
RulesOption = Annotated[str, typer.Option(metavar="NAME|FILE", help="A shipped rule set, or your own TOML file.")]
DeviceOption = Annotated[Literal["auto", "cpu", "cuda"], typer.Option(help="Where the model runs.")]
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
FollowLinksOption = Annotated[bool, typer.Option("--follow-links", help="Follow symbolic links among the photos.")]
FashionMnistOption = Annotated[
    Path | None, typer.Option(metavar="DIR", help="The folder of Fashion-MNIST's IDX files.")
]


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"stylematch {__version__}")
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Parse what comes before the command."""


@app.command()
def score(
    photos: PhotosArgument,
    out: Annotated[Path, typer.Option(metavar="OUT", help="Where the run goes.")] = Path("stylematch-out"),
    top_k: Annotated[int, typer.Option(min=1, metavar="K", help="Items per face.")] = 5,
    index: Annotated[
        list[Path] | None,
        typer.Option(metavar="DIR", help="An index or collection that replaces parts of the default; repeatable."),
    ] = None,
    rules: RulesOption = "wardrobe",
    faces: Annotated[
        Literal["find", "aligned"], typer.Option(help="Search for faces, or take each picture for a face crop.")
    ] = "find",
    device: DeviceOption = "auto",
    batch_size: BatchSizeOption = 32,
    workers: WorkersOption = 0,
    limit: LimitOption = None,
    where: Annotated[
        str | None,
        typer.Option(metavar="SQL", help='Only such items: a condition over their columns, as "price < 50".'),
    ] = None,
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
    follow_links: FollowLinksOption = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Score again what is already there.")] = False,
    max_reject_share: Annotated[
        float | None,
        typer.Option(min=0, max=1, metavar="X", help="Exit with code 4 if a larger share of the photos is rejected."),
    ] = None,
) -> None:
    """Score a directory of photos: faces, attributes, styles and items, as Parquet, with a gallery."""
    from stylematch.pipelines.score import score as run
    from stylematch.settings import OPTIONS, ScoreSettings, validated

    settings = validated(
        ScoreSettings,
        OPTIONS,
        top_k=top_k,
        rules=rules,
        faces=faces,
        device=device,
        batch_size=batch_size,
        workers=workers,
        limit=limit,
        where=where,
        weight_similarity=weight_similarity,
        weight_tags=weight_tags,
        weight_category=weight_category,
        mmr_lambda=mmr_lambda,
        seed=seed,
        report=report,
        min_face_px=min_face_px,
        max_megapixels=max_megapixels,
        max_file_mb=max_file_mb,
        follow_links=follow_links,
        overwrite=overwrite,
        max_reject_share=max_reject_share,
    )
    if not photos:  # an unset variable in a script, which a Path would take for the current directory
        raise UserError("PHOTOS is empty: name a directory of photos")
    for line in run(Path(photos), out, settings, index or []).lines():
        typer.echo(line)


@app.command()
def query(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="A run's directory.")],
    sql: Annotated[str, typer.Argument(metavar="SQL", help="One SELECT over photos, faces and recommendations.")],
    output_format: Annotated[
        Literal["table", "csv", "json"], typer.Option("--format", help="A table for people; csv and json are complete.")
    ] = "table",
) -> None:
    """Query a run's tables with SQL (DuckDB), read-only."""
    from stylematch.tables.query import run_query

    run_query(out, sql, output_format=output_format, stream=sys.stdout)


@app.command()
def train(
    job: Annotated[Path, typer.Argument(metavar="JOB.toml", help="The job file.")],
    overrides: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change a key of the job; repeatable.")
    ] = None,
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
    from stylematch.pipelines.train import read_train_job
    from stylematch.pipelines.train import train as run

    read = read_train_job(job, overrides or (), smoke=smoke, celeba=root, fashion_mnist=fashion_mnist)
    if dry_run:
        from stylematch.pipelines.dry_run import describe_training

        lines = describe_training(read)
    else:
        lines = iter(run(read, job).lines())
    for line in lines:
        typer.echo(line)


@app.command()
def evaluate(
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE", help="A model bundle.")],
    data: Annotated[
        str, typer.Argument(metavar="DATA", help="A labelled folder: CelebA's layout, or the model's own data set.")
    ],
    out: Annotated[Path, typer.Option(metavar="OUT", help="Where figures, card and plots go.")] = Path(
        "stylematch-evaluation"
    ),
    split: Annotated[
        Literal["train", "val", "test", "all"], typer.Option(help="Which part of a CelebA folder.")
    ] = "test",
    faces: Annotated[
        Literal["aligned", "find"], typer.Option(help="Pictures are face crops, or whole photos to search for faces.")
    ] = "aligned",
    limit: Annotated[int | None, typer.Option(min=1, metavar="N", help="Only the first so many pictures.")] = None,
) -> None:
    """Measure a model on labelled pictures: figures with intervals, a model card, plots."""
    from stylematch.pipelines.evaluate import evaluate as run

    for line in run(bundle, data, out, split=split, faces=faces, limit=limit).lines():
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
    from stylematch.pipelines.evaluate_recs import evaluate_recs as measure

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
def embed(
    source: Annotated[
        str, typer.Argument(metavar="SOURCE", help="celeba, fashion-mnist, a directory of pictures, or a job file.")
    ],
    out: Annotated[
        Path | None, typer.Option(metavar="OUT", help="Where the embeddings go (not with a job file).")
    ] = None,
    bundle: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="The model that embeds; by default the shipped one for the source."),
    ] = None,
    fashion_mnist: FashionMnistOption = None,
    root: Annotated[
        Path | None, typer.Option(metavar="DIR", help="The folder of CelebA, where it is not at its usual place.")
    ] = None,
    split: Annotated[
        list[str] | None, typer.Option(metavar="SPLIT", help="train, val or test; repeatable; by default all.")
    ] = None,
    faces: Annotated[
        Literal["find", "aligned"] | None,
        typer.Option(help="For a directory: search for faces (the default), or take each picture for a face crop."),
    ] = None,
    device: DeviceOption = "auto",
    batch_size: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Pictures a batch, by default 64; changes no result.")
    ] = None,
) -> None:
    """Embed a data set or a directory of pictures into Parquet shards."""
    from stylematch.pipelines.embed import embed as run
    from stylematch.pipelines.embed import embed_job, settings_of

    if source.endswith(".toml"):
        if any((out, bundle, fashion_mnist, root, split, faces, batch_size)):
            raise typer.BadParameter("a job file says all but --device itself", param_hint="SOURCE")
        lines = embed_job(Path(source), device).lines()
    else:
        if out is None:
            raise typer.BadParameter("is needed for a source that is no job file", param_hint="--out")
        settings = settings_of(
            source,
            out,
            bundle=bundle,
            fashion_mnist=fashion_mnist,
            celeba=root,
            splits=split,
            faces=faces,
            batch_size=batch_size,
        )
        lines = run(settings, device).lines()
    for line in lines:
        typer.echo(line)


@app.command()
def predict(
    bundle: Annotated[
        Path, typer.Argument(metavar="BUNDLE", help="A model bundle, such as indexes/default/attributes.")
    ],
    photos: PhotosArgument,
    out: Annotated[Path, typer.Option(metavar="OUT", help="Where the run goes.")] = Path("stylematch-predictions"),
    faces: Annotated[
        Literal["find", "aligned"] | None,
        typer.Option(help="For a model of faces: search for them (the default), or take each picture for a face crop."),
    ] = None,
    invert: Annotated[
        bool, typer.Option("--invert", help="For a model of grey pictures: swap dark and light.")
    ] = False,
    limit: LimitOption = None,
    batch_size: BatchSizeOption = 32,
    device: DeviceOption = "auto",
    sheet: Annotated[bool, typer.Option(help="Draw the contact sheet.")] = True,
    min_face_px: MinFaceOption = 24,
    max_megapixels: MaxMegapixelsOption = 200.0,
    max_file_mb: MaxFileOption = 200.0,
    follow_links: FollowLinksOption = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Predict again what is already there.")] = False,
) -> None:
    """Write what one model says of a directory of photos, as Parquet, with a contact sheet."""
    from stylematch.pipelines.predict import predict as run
    from stylematch.settings import OPTIONS, PredictSettings, validated

    settings = validated(
        PredictSettings,
        OPTIONS,
        faces=faces,
        invert=invert,
        limit=limit,
        batch_size=batch_size,
        device=device,
        sheet=sheet,
        min_face_px=min_face_px,
        max_megapixels=max_megapixels,
        max_file_mb=max_file_mb,
        follow_links=follow_links,
        overwrite=overwrite,
    )
    if not photos:  # an unset variable in a script, which a Path would take for the current directory
        raise UserError("PHOTOS is empty: name a directory of photos")
    for line in run(bundle, Path(photos), out, settings).lines():
        typer.echo(line)


@rules_app.command("apply")
def rules_apply(
    labels: Annotated[Path, typer.Argument(metavar="LABELS", help="A Parquet file with one column per attribute.")],
    rules: RulesOption = "wardrobe",
) -> None:
    """Evaluate a rule set on true labels and print how many people fall into each style."""
    from stylematch.pipelines.rules import apply_rules

    for style, count in apply_rules(labels, rules):
        typer.echo(f"{style}\t{count}")


@rules_app.command("check")
def rules_check(
    rules: Annotated[str, typer.Argument(metavar="FILE", help="Your TOML file, or a shipped rule set's name.")],
    labels: Annotated[
        Path | None,
        typer.Option(metavar="LABELS", help="Count these people (Parquet, as for apply), not the face gallery's."),
    ] = None,
    index: Annotated[
        list[Path] | None,
        typer.Option(metavar="DIR", help="An index or collection, as for score: its categories and gallery count."),
    ] = None,
) -> None:
    """Check a rule set: coverage, overlaps, unreachable rules and unknown names, each with its line and key."""
    from stylematch.pipelines.rules import check_rules

    for line in check_rules(rules, labels=labels, indexes=index or ()).lines():
        typer.echo(line)


@rules_app.command("fit")
def rules_fit(
    rules: Annotated[
        list[str] | None, typer.Argument(metavar="NAME|FILE...", help="Rule sets; by default all that are shipped.")
    ] = None,
    index: Annotated[
        list[Path] | None,
        typer.Option(metavar="DIR", help="An index or collection, as for score: its gallery and model are fitted to."),
    ] = None,
    root: Annotated[
        Path | None, typer.Option(metavar="DIR", help="The folder of celeba/ and photos/, labelled people to fit to.")
    ] = None,
    report: Annotated[Path, typer.Option(metavar="DIR", help="Where figures go.")] = Path("stylematch-style"),
    cache: Annotated[Path | None, typer.Option(metavar="DIR", help="Where a training keeps its cut faces.")] = None,
) -> None:
    """Fit how rules and neighbours are pooled, on people that neither has seen, and measure what each is worth."""
    from stylematch.pipelines.fit_style import fit_style

    for line in fit_style(rules or (), report, indexes=index or (), root=root, cache=cache).lines():
        typer.echo(line)


@index_app.command("build")
def index_build(
    embeddings: Annotated[Path, typer.Argument(metavar="EMBEDDINGS", help="A directory that embed wrote.")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="The index's directory, such as indexes/NAME.")],
    kind: Annotated[
        Literal["auto", "exact", "hnsw", "ivf", "ivfpq"],
        typer.Option(help="By default chosen by size and memory: exact up to a million vectors."),
    ] = "auto",
    target_recall: Annotated[
        float, typer.Option(metavar="X", help="The recall@10 that approximate kinds are tuned to.")
    ] = 0.95,
    max_memory_gb: Annotated[
        float, typer.Option(metavar="X", help="Memory in GiB, for building and for searching each.")
    ] = 8.0,
) -> None:
    """Build a FAISS index over embeddings."""
    from stylematch.pipelines.index import build_index
    from stylematch.settings import OPTIONS, validated
    from stylematch.settings.index import IndexSettings

    settings = validated(IndexSettings, OPTIONS, kind=kind, target_recall=target_recall, max_memory_gb=max_memory_gb)
    infos = build_index(embeddings, out, settings, on_plan=lambda lines: typer.echo("\n".join(lines)))
    typer.echo(f"{infos['count']:,} {infos['kind']} of {infos['dim']} dimensions in {out}")
    if infos["kind"] == "faces" and not infos["attribute_names"]:
        typer.echo("these faces have no labels: score cannot vote with them (its gallery is embedded from celeba)")


@index_app.command("add")
def index_add(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="An index; replaced when all is done.")],
    embeddings: Annotated[Path, typer.Argument(metavar="EMBEDDINGS", help="A directory that embed wrote.")],
    update: Annotated[bool, typer.Option("--update", help="Replace the vectors of ids that are there.")] = False,
) -> None:
    """Add embeddings to an index, without building it again."""
    from stylematch.pipelines.index_change import add_to_index

    for line in add_to_index(directory, embeddings, update=update).lines():
        typer.echo(line)


@index_app.command("remove")
def index_remove(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="An index; replaced when all is done.")],
    ids: Annotated[Path, typer.Option(metavar="FILE", help="The ids to remove, one a line (UTF-8).")],
    missing_ok: Annotated[bool, typer.Option("--missing-ok", help="Pass over ids that are not there.")] = False,
) -> None:
    """Remove vectors from an index by id, without building it again."""
    from stylematch.pipelines.index_change import remove_from_index

    for line in remove_from_index(directory, ids, missing_ok=missing_ok).lines():
        typer.echo(line)


@index_app.command("info")
def index_info(path: Annotated[Path, typer.Argument(metavar="INDEX", help="An index or a collection.")]) -> None:
    """Say what an index or a collection holds."""
    from stylematch.pipelines.index import describe_index

    typer.echo(describe_index(path))


@catalog_app.command("build")
def catalog_build(
    items: Annotated[
        Path, typer.Argument(metavar="ITEMS", help="A .csv or .parquet table of items, or a directory of pictures.")
    ],
    out: Annotated[Path, typer.Option(metavar="DIR", help="The collection, such as indexes/NAME.")],
    images: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="The folder that the column image is relative to; by default the table's."),
    ] = None,
    column: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=COLUMN", help="What the table calls a column, such as item_id=sku; repeatable."),
    ] = None,
    bundle: Annotated[
        Path | None, typer.Option(metavar="DIR", help="The garment encoder; by default the shipped one.")
    ] = None,
    allow_outside: Annotated[
        bool, typer.Option("--allow-outside", help="Pictures may lie outside the folder.")
    ] = False,
    device: DeviceOption = "auto",
    batch_size: Annotated[int, typer.Option(min=1, metavar="N", help="Pictures a batch; changes no result.")] = 256,
    workers: WorkersOption = 0,
) -> None:
    """Build a collection of your own items: pictures embedded, tags that are missing predicted."""
    from stylematch.pipelines.catalog import build_catalog

    pairs = [pair.partition("=") for pair in column or ()]
    if broken := next(("".join(pair) for pair in pairs if not (pair[0] and pair[2])), None):
        raise typer.BadParameter(f"{broken} is no NAME=COLUMN", param_hint="--column")
    summary = build_catalog(
        items,
        out,
        images=images,
        columns={name: of for name, _, of in pairs},
        bundle_dir=bundle,
        allow_outside=allow_outside,
        device=device,
        batch_size=batch_size,
        workers=workers,
    )
    for line in summary.lines():
        typer.echo(line)


@merge_app.command("celeba")
def merge_celeba(
    root: Annotated[Path, typer.Argument(metavar="ROOT", help="A folder in CelebA's layout.")],
    out: Annotated[Path, typer.Option(metavar="FILE.parquet", help="The table's file; replaced if it is there.")],
    rules: RulesOption = "wardrobe",
) -> None:
    """Merge all of CelebA's label files, with the style of each picture by its true labels."""
    from stylematch.pipelines.merge import merge_celeba as run

    for line in run(root, out, rules).lines():
        typer.echo(line)


@app.command("default-index")
def default_index(
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where the collection goes.")] = Path("indexes/default"),
    attributes: Annotated[Path, typer.Option(metavar="DIR", help="The attribute model's bundle.")] = Path(
        "runs/celeba-mobilenet-distilled/bundle"
    ),
    garments: Annotated[Path, typer.Option(metavar="DIR", help="The garment encoder's bundle.")] = Path(
        "runs/garment-small/bundle"
    ),
    root: Annotated[Path | None, typer.Option(metavar="DIR", help="The folder of CelebA.")] = None,
    fashion_mnist: FashionMnistOption = None,
) -> None:
    """Put the default together from two trained models and their data sets."""
    from stylematch.pipelines.default_index import build_default

    for line in build_default(out, attributes, garments, celeba=root, fashion_mnist=fashion_mnist):
        typer.echo(line)


def log_to_stderr() -> None:
    """Send the package's own log lines to standard error, each with its time."""
    logger = logging.getLogger("stylematch")
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%Y-%m-%d %H:%M:%S"))
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False


def main() -> NoReturn:
    """Run the command line; every error that is understood becomes one sentence and its exit code."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a scheduler's stop is a Ctrl-C, in every command
    log_to_stderr()
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Run one command and return its exit code.

    Parameters
    ----------
    arguments : list of str
        Without the program's name.
    """
    from stylematch.tables.contract import ExitCode
    from stylematch.tables.disk import shown

    try:
        result: Any = app(arguments, prog_name="stylematch-batch", standalone_mode=False)
        sys.stdout.flush()
    except StylematchError as error:
        for line in getattr(error, "lines", ()):  # a run that is done says so, over whatever limit
            typer.echo(line)
        typer.echo(f"stylematch-batch: {shown(str(error))}", err=True)  # names in it may hold line feeds
        return error.exit_code
    except (KeyboardInterrupt, typer.Abort):
        result = ExitCode.INTERRUPTED
    except SystemExit as error:
        # Typer leaves so when a pipe is closed, Lightning when a training is interrupted.
        if isinstance(error.__context__, BrokenPipeError):
            return _reader_has_gone()
        if not isinstance(error.__context__, KeyboardInterrupt):
            raise
        result = ExitCode.INTERRUPTED
    except BrokenPipeError:
        return _reader_has_gone()
    except OSError as error:  # a full disk, a folder that went away: the file system's fault, not a program's
        typer.echo(f"stylematch-batch: {shown(str(error))}; mend that and run the same command again", err=True)
        return ExitCode.FAILED_RESUMABLE
    except Exception as error:
        show = getattr(error, "show", None)
        if show is None:  # a fault of ours: all that is known of it, and a code that a scheduler may retry on
            traceback.print_exc()
            return ExitCode.FAILED_RESUMABLE
        show()  # a usage error, which knows the command's usage line
        return ExitCode.USER_ERROR
    if result == ExitCode.INTERRUPTED:
        typer.echo("stylematch-batch: interrupted; the same command goes on where it stopped", err=True)
    return result if isinstance(result, int) else ExitCode.DONE


def _reader_has_gone() -> int:
    """Return success: whoever read our output (head, say) has seen enough. What is still buffered goes nowhere."""
    from stylematch.tables.contract import ExitCode

    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    return ExitCode.DONE


if __name__ == "__main__":
    main()
