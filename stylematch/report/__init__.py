"""The gallery: a run as a page to look at."""
