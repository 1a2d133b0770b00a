"""Training runs, as the API and the trainers see them; neither torch nor the training library."""
