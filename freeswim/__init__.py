"""FreeSwim makes and remakes shots for editors, up to 4K, on their own GPU, without training."""

__version__ = "0.1.0"
