"""What became of a shot."""
