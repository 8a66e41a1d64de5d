"""Takes on an editor's timeline."""
