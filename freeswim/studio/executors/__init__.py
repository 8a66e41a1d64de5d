"""Where attempts at jobs run."""
