"""How the demo checkpoint was made: everything that `python -m freeswim.models.demo.train` runs."""
