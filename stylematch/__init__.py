"""stylematch: a batch, offline style recommender over photos, with an embedding index.

Photos go in; Parquet tables (photos, faces, recommendations) and a browsable gallery come out. The package is laid out
along the way of the data; ``docs/architecture.md`` draws it.
"""

__version__ = "0.1.0"
