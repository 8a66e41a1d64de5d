"""The embedded demo checkpoint: koi in a pond, with the scenes it was trained on and their measure."""
