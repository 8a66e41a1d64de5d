"""What is asked of a shot, and the button that sends it."""
