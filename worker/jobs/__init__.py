"""What a job does on its worker: claim, run each kind, publish its events, end it."""
