"""``embed``: a data set or a directory of pictures in, embeddings as Parquet shards out, and an index where a job asks.

Shards (``part-NNNNN.parquet``) hold ``id``, ``embedding`` (half floats) and what is known of each picture; beside them
``embeddings.json`` says what made them. The folder is staged and appears by one rename. Pictures that give no embedding
are counted by reason in ``embeddings.json`` and listed in ``skipped.csv``.
"""

from __future__ import annotations

import csv
import json
import os
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import batched, islice
from pathlib import Path
from typing import Any
