"""Metrics, baselines and model cards."""
