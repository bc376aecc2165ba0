"""What names a run that scores photos: the digests of all that its tables follow from."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import numpy.typing as npt

from stylematch.data.heif import has_heif
from stylematch.pipelines.assets import Assets
from stylematch.pipelines.style_fit import described, fit_of
from stylematch.search.infos import index_info
from stylematch.settings.score import ScoreSettings
from stylematch.style.rules import load_rules
from stylematch.tables.environment import code_version
from stylematch.tables.manifest import compute_run_id, json_sha256
from stylematch.vision.bundle import Bundle
from stylematch.vision.yunet import YUNET_SHA256


def run_digests(
    settings: ScoreSettings, assets: Assets, device: str, allowed: npt.NDArray[np.int64] | None
) -> dict[str, Any]:
    """Return the digests of all that a run's tables follow from, but for the photos.

    ``allowed`` (m,) are the positions of the items that may be recommended; None is all.
    """
    names = Bundle.open(assets.attributes).schema.group("attributes").labels
    rules = load_rules(
        settings.rules,
        attribute_names=names,
        categories=index_info(assets.items)["categories"],
        without=settings.without,
    )
    # The device is no trace of the host: CPU and CUDA differ in the last digits, so they are different runs. And who
    # installs the heic extra because photos were rejected without it must not hear that nothing is left to do.
    return {
        "settings": {
            **settings.naming(),
            "device": device,
            "heic": has_heif(),
            "style_fusion": described(fit_of(assets, rules)),
        }
        | ({} if allowed is None else {"allowed_items": hashlib.sha256(allowed.tobytes()).hexdigest()}),
        "bundle": assets.bundle_sha256(),
        "garments": Bundle.open(assets.garments).sha256,
        "face_finder": YUNET_SHA256,
        "rules": rules.sha256,
        **assets.index_sha256,
    }


def run_id_of(inputs_sha256: str, digests: dict[str, Any]) -> str:
    """Return the name of a run over a listing, given ``run_digests``."""
    return compute_run_id(
        inputs=inputs_sha256,
        settings=digests["settings"],
        bundles=digests["bundle"],
        index=json_sha256([digests["faces"], digests["items"]]),
        rules=digests["rules"],
        code=code_version(),
    )


def named_digests(inputs_sha256: str, digests: dict[str, Any]) -> dict[str, str]:
    """Return the digests as a manifest names them."""
    plain = {name: value for name, value in digests.items() if isinstance(value, str)}
    return plain | {"settings": json_sha256(digests["settings"]), "inputs": inputs_sha256}
