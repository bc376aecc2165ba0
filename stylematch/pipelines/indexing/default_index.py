"""``default-index``: put a collection together from two trained models and their data sets.

The parts are the two bundles, the gallery of the faces that the attribute model learned from (with their true
attributes; neither identities nor pictures), and Fashion-MNIST's 10,000 test items. ``collection.json`` names them with
their digests, and the licences lie beside them.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path
from typing import Literal

from stylematch.data.fashion_mnist import LICENCE_TEXT
from stylematch.errors import UserError
from stylematch.pipelines.assets import PARTS
from stylematch.pipelines.indexing.embed import embed
from stylematch.pipelines.indexing.index import build_index
from stylematch.search.infos import index_info
from stylematch.settings.embed import EmbedJob
from stylematch.style.fits import STYLE_FILE
from stylematch.tables.disk import write_durably
from stylematch.tables.replace import DirectoryKind
from stylematch.tables.shown import shown
from stylematch.vision.bundle import Bundle

COLLECTION_FILE, LICENCES_FILE = "collection.json", "LICENCES.md"
COLLECTION = DirectoryKind(
    "a collection", COLLECTION_FILE, lambda _, name: name in PARTS or name in (LICENCES_FILE, STYLE_FILE)
)


def build_default(
    out: Path, attributes: Path, garments: Path, *, celeba: Path | None = None, fashion_mnist: Path | None = None
) -> list[str]:
    """Build the default index.

    Parameters
    ----------
    out : pathlib.Path
        Where the collection goes; one that is there is replaced.
    attributes, garments : pathlib.Path
        The bundles.
    celeba, fashion_mnist : pathlib.Path, optional
        The data sets' folders, where they are not at their usual places.

    Returns
    -------
    list of str
        What a person is told at the end.

    Raises
    ------
    UserError
        If a bundle or a data set is missing, or OUT holds something else.
    """
    COLLECTION.check(out)
    for bundle in (attributes, garments):
        if not bundle.is_dir():
            raise UserError(f"there is no model bundle {shown(bundle)}: train the model first, or name another bundle.")
        Bundle.open(bundle)
    jobs: dict[str, tuple[str, Path, Literal["train", "test"], Path | None]] = {
        "faces": ("celeba", attributes, "train", celeba),
        "items": ("fashion-mnist", garments, "test", fashion_mnist),
    }
    with (
        COLLECTION.replaced(out) as staged,
        tempfile.TemporaryDirectory(prefix="stylematch-") as scratch,
    ):
        for name, bundle in (("attributes", attributes), ("garments", garments)):
            shutil.copytree(bundle, staged / name)
        for name, (source, bundle, split, root) in jobs.items():
            job = EmbedJob(
                source=source,
                bundle=str(bundle),
                embeddings=str(Path(scratch) / name),
                splits=(split,),
                root=str(root) if root else None,
            )
            embed(job, "cpu")
            build_index(Path(scratch) / name, staged / name)
        (staged / LICENCES_FILE).write_text(_licences(staged), encoding="utf-8")
        digests = {name: Bundle.open(staged / name).sha256 for name in ("attributes", "garments")}
        digests |= {name: index_info(staged / name)["files"] for name in jobs}
        write_durably(staged / COLLECTION_FILE, (json.dumps(digests, indent=2, sort_keys=True) + "\n").encode())
    size = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
    return [f"{shown(out)}: {', '.join(PARTS)}; {size / 1e6:.2f} MB in all"]


def _licences(staged: Path) -> str:
    bundles = {name: Bundle.open(staged / name).description["licence"] for name in ("attributes", "garments")}
    indexes = {name: index_info(staged / name)["licence"] for name in ("faces", "items")}
    return "\n".join(
        [
            "# Licences of what lies here",
            "",
            f"- `attributes/`: {bundles['attributes']}",
            "  Fine-tuned from torchvision's MobileNetV2 (BSD 3-Clause, copyright Soumith Chintala 2016), which",
            "  learned from ImageNet; NOTICE.md of stylematch has that licence's text.",
            f"- `faces/`: {indexes['faces']}",
            "  Embeddings and true attributes of the training split; no identities, no pictures.",
            f"- `garments/`: {bundles['garments']}",
            f"- `items/`: {indexes['items']}",
            "  Embeddings, categories and the 28x28 pictures of the test split.",
            "",
            "## Fashion-MNIST",
            "",
            LICENCE_TEXT,
        ]
    )
