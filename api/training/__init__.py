"""Training runs and evaluations, whichever route they came through."""
