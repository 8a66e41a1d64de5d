"""The queue: what is made, in which order, and how far it is."""
