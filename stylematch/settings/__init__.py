"""Settings: TOML or options in, validated and frozen values out; every error names the file, the key and the fix.

A job file describes one thing that a person schedules: a training (``TrainJob``), the embedding of a data set
(``EmbedJob``) or a nightly export (``ExportJob``). Relative paths in it are relative to the working directory, so that
a job file can be copied.

Nothing is imported here: a worker needs the settings of its own job alone.
"""
