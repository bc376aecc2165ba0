"""stylematch: a batch, offline style recommender over photos, with an embedding index.

Photos go in; Parquet tables (photos, faces, recommendations) and a browsable gallery come out. The package is laid out
along the way of the data; ``docs/architecture.md`` draws it. In a notebook, ``stylematch.Stylematch`` scores photos
into data frames; it is loaded when it is first asked for, so that importing the package stays free.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stylematch.api import Stylematch as Stylematch

__version__ = "0.1.0"
__all__ = ["Stylematch", "__version__"]


def __getattr__(name: str) -> Any:
    if name == "Stylematch":
        return import_module("stylematch.api").Stylematch
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
