"""Settings: TOML or options in, validated and frozen values out; every error names the file, the key and the fix.

A job file describes one thing that a person schedules: a training (``TrainJob``), the embedding of a data set
(``EmbedJob``) or a nightly export (``ExportJob``). Relative paths in it are relative to the working directory, so that
a job file can be copied.
"""

from stylematch.settings.base import Section
from stylematch.settings.embed import EmbedJob
from stylematch.settings.export import ExportJob
from stylematch.settings.faults import OPTIONS
from stylematch.settings.load import data_root, load_job, usual_folder, validated
from stylematch.settings.photos import PhotoSettings
from stylematch.settings.predict import PredictSettings
from stylematch.settings.score import ScoreSettings
from stylematch.settings.serve import ServeSettings
from stylematch.settings.train import TrainJob
from stylematch.settings.train_data import TrainData
from stylematch.settings.train_method import Augment, Distill, Loss, Schedule, Step
from stylematch.settings.train_model import Model

__all__ = [
    "OPTIONS",
    "Augment",
    "Distill",
    "EmbedJob",
    "ExportJob",
    "Loss",
    "Model",
    "PhotoSettings",
    "PredictSettings",
    "Schedule",
    "ScoreSettings",
    "Section",
    "ServeSettings",
    "Step",
    "TrainData",
    "TrainJob",
    "data_root",
    "load_job",
    "usual_folder",
    "validated",
]
