"""What a training learns from: a data set, which of its labels, and which pictures of them."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from stylematch.settings.base import Count, Section, Seed, Switch

Dataset = Literal["celeba", "fashion-mnist", "fashion-product", "flixstock", "garments", "table", "folders"]
GROUPS: dict[str, tuple[str, ...]] = {
    "celeba": ("attributes", "landmarks", "box"),
    "fashion-mnist": ("category",),
    "fashion-product": (
        "gender",
        "masterCategory",
        "subCategory",
        "articleType",
        "baseColour",
        "season",
        "usage",
    ),
    "flixstock": ("neck", "sleeve_length", "pattern"),
    "garments": ("category", "articleType", "gender", "baseColour", "season", "usage"),
}
"""The label groups that each data set knows."""
TABLE, FOLDERS, TAGS = "table", "folders", "tags"
"""The data sets whose groups are their own, and what a table's columns of yes and no are together."""
_USUAL_GROUPS = {**GROUPS, "celeba": ("attributes", "landmarks")}


class TrainData(Section):
    """Which pictures and labels to learn from.

    Attributes
    ----------
    dataset : str
        ``celeba``, ``fashion-mnist``, ``fashion-product``, ``flixstock``, ``garments`` (Fashion-MNIST and Fashion
        Product together, in one look), or pictures of your own: ``table``, labelled in a CSV or Parquet file, or
        ``folders``, a folder of them for each class.
    root : str, optional
        Its folder; by default in ``$STYLEMATCH_DATA`` or ``../shared/data``, or as found (Fashion-MNIST). CelebA's
        own, or the one that holds it as ``celeba``; its other folders lie beside it. For ``garments``, Fashion
        Product's; for ``table``, the file, for ``folders``, the folder of the folders, which have to be named.
    images : str, optional
        The folder that the paths in the table are relative to, and may not leave; by default the table's (``table``).
    image_column : str, optional
        The column of the pictures' paths; by default ``image``, or else pictures are looked for that are called as
        ``item_id`` or ``id`` says (``table``).
    split_column : str
        The column that says ``train``, ``val`` or ``test``, where ``split`` is ``column`` (``table``).
    fashion_mnist : str, optional
        Fashion-MNIST's folder (``garments``).
    product_repeat : int
        How often an epoch shows each picture of Fashion Product (``garments``).
    groups : list of str
        Label groups to learn; by default all (CelebA: attributes and landmarks, not the box). Of a ``table``, the
        columns of classes; of ``folders``, what the group of all of them is called, by default ``label``.
    tags : list of str
        The columns of yes and no, which are one group of labels together, ``tags`` (``table``).
    wild, wild_repeat : bool, int
        Also learn from ``celeba_wild``, cropped around what the face finder finds, and how often an epoch shows each
        of its pictures (CelebA).
    split : str
        Fashion Product: ``years`` (even years train, odd years test) or ``stratified`` (80/20). FlixStock: ``random``.
        A ``table``: ``column``, ``random``, or ``stratified`` by the first of ``groups``. ``folders``:
        ``random``, ``stratified``, or ``folders``, where those called ``train``, ``val`` and ``test`` hold those of the
        classes. The others have splits of their own: ``official``.
    validation : float
        Share of the training pictures that are watched instead of learned from, where there is no validation split.
    split_seed : int
        Of random splits.
    min_label_count : int
        Labels with fewer pictures become unknown (Fashion Product, ``table``,
        ``folders``).
    missing : str
        ``#N/A`` is an answer of its own (``category``) or no answer (``unknown``) (FlixStock).
    resize : str
        Whole pictures are squashed to a square, padded (``pad``), or trimmed and negated (``garment``), as
        ``garments`` always are.
    balance : str
        Rare labels are compensated by nothing (``none``), ``weights`` in the loss, or a ``sampler``.
    balance_power : float
        How much of that: what a label counts is raised to this power. 1 makes frequent and rare ones count the same;
        0.5 is the square root of their frequencies (Mahajan et al., ECCV 2018).
    limit : int, optional
        Only so many pictures of each part, for a quick try.
    """

    dataset: Dataset
    root: str | None = None
    images: str | None = None
    image_column: str | None = None
    split_column: str = "split"
    fashion_mnist: str | None = None
    product_repeat: Count = 1
    groups: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    wild: Switch = True
    wild_repeat: Count = 1
    split: Literal["official", "years", "stratified", "random", "column", "folders"] = "official"
    validation: Annotated[float, Field(gt=0.0, lt=1.0, strict=True)] = 0.1
    split_seed: Seed = 0
    min_label_count: Count = 1
    missing: Literal["category", "unknown"] = "unknown"
    resize: Literal["squash", "pad", "garment"] = "squash"
    balance: Literal["none", "weights", "sampler"] = "none"
    balance_power: Annotated[float, Field(gt=0.0, le=1.0, strict=True)] = 1.0
    limit: Count | None = None

    @property
    def label_groups(self) -> tuple[str, ...]:
        """The groups to learn, in the data set's order; of a table, as they are named."""
        if self.dataset == FOLDERS:
            return self.groups or ("label",)
        if self.dataset == TABLE:
            return (*self.groups, *((TAGS,) if self.tags else ()))
        chosen = self.groups or _USUAL_GROUPS[self.dataset]
        return tuple(name for name in GROUPS[self.dataset] if name in chosen)
