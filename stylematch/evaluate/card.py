"""The model card: what a bundle is, what it learned from, what was measured and what it must not be used for.

Follows Mitchell et al., "Model Cards for Model Reporting", FAT* 2019, as far as the figures go.
"""

from __future__ import annotations

from typing import Any

from stylematch.vision.bundle import CARD, Bundle

_INTENDED = {
    "attributes": (
        "Describing how a face in a photo presents itself (hair, glasses, make-up, expression), so that rules can pick "
        "a style of clothing. The labels are how CelebA's annotators saw celebrities; several of them ('Attractive', "
        "'Chubby', 'Male', 'Young', ...) are judgements, not facts. Not for identifying people, not for any decision "
        "about a person, not for surveillance. CelebA's people are celebrities, mostly light-skinned and young; expect "
        "worse figures on others."
    ),
    "category": (
        "Telling ten kinds of garment apart in 28x28 grey pictures like Fashion-MNIST's, and embedding them for "
        "search. Not for photos of worn clothes."
    ),
}


def write_card(bundle: Bundle, figures: dict[str, Any]) -> None:
    """Write ``MODEL_CARD.md`` into a bundle.

    Parameters
    ----------
    bundle : Bundle
        The model.
    figures : dict
        What ``pipelines.train`` measured: data set -> group -> figures.
    """
    groups = [group.name for group in bundle.schema.groups]
    lines = [
        f"# {bundle.name}",
        "",
        f"- Network: {bundle.description['architecture']['backbone']}, {bundle.description['parameters']:,} "
        f"parameters, {bundle.input_px} px input, embedding of {bundle.embedding_dim} dimensions",
        f"- Predicts: {', '.join(f'{g.name} ({g.kind}, {g.width})' for g in bundle.schema.groups)}",
        f"- Learned from: {figures['learned_from']:,} pictures (job `{figures['job']['name']}`)",
        f"- Licence: {bundle.description['licence']}",
        "",
        "## Use",
        "",
        *[_INTENDED[name] for name in groups if name in _INTENDED],
        "",
        "## Figures",
        "",
        "Measured on the exported bundle in ONNX Runtime, threshold 0.5, on pictures that nothing was learned from.",
        "`majority_accuracy` is that of always answering the more frequent label; `mean_shape_error` that of always "
        "answering the mean position. Errors of points are relative to the distance between the eyes.",
        "",
    ]
    for data_set, by_group in figures["measured"].items():
        lines += [f"### {data_set}", ""]
        for group, values in by_group.items():
            plain = {key: value for key, value in values.items() if not isinstance(value, dict)}
            lines += [f"- {group}: " + ", ".join(f"{key} {value}" for key, value in plain.items())]
        lines.append("")
        for group, values in by_group.items():
            lines += _per_label(group, values.get("per_label", {}))
    (bundle.directory / CARD).write_text("\n".join(lines).rstrip() + "\n", encoding="utf-8")


def _per_label(group: str, per_label: dict[str, dict[str, float]]) -> list[str]:
    if not per_label:
        return []
    columns = list(next(iter(per_label.values())))
    rows = [
        f"| {name} | " + " | ".join(f"{values[column]:.3f}" for column in columns) + " |"
        for name, values in per_label.items()
    ]
    return [f"| {group} | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|", *rows, ""]
