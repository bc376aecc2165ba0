"""Whole runs: each module takes one command from its settings to published outputs."""

SCORING = "stylematch.pipelines.score_partition"
"""The module that workers import to score photos, named here for those that do not import it."""
