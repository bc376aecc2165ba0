"""Whole runs: each module takes one command from its settings to published outputs."""
