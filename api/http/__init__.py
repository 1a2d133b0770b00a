"""What every request goes through, whatever its route: hooks, CORS, limits on bodies, disconnects, shared turns.

Rule of this folder: no route, no job.
"""
