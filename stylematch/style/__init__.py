"""Attributes to style: rule sets, soft evaluation, the neighbours' vote and their fusion."""
