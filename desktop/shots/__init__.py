"""All shots, and files that become shots."""
