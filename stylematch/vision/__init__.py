"""Pixels to numbers: face finder, crops, networks, training, model bundles and the inference runtimes."""
