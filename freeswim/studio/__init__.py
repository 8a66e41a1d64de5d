"""The studio daemon: a durable queue of jobs, the workers that make them, and the HTTP API."""
