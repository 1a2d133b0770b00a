"""The model of a worker: following the desired state, loading and unloading, handles for the jobs that use it."""
