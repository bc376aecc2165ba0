"""A night's export, step by step: what is kept of photos, what is new, what is published."""
