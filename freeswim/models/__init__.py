"""The supported checkpoints and their weights."""
