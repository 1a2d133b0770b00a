"""A worker's metrics and traces."""
