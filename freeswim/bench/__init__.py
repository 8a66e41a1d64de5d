"""How fast the method is on a machine, and what it is worth in pictures."""
