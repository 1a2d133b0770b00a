"""The model that a worker holds: which one is wanted, loading and unloading it, handles for the jobs that use it."""
