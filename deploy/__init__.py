"""Setting up, starting, supervising and checking the whole system on one machine or in containers.

Rule of this folder: it starts the API and the workers as processes and imports neither, nor torch. `options`,
`bootstrap` and `check_server` use the standard library alone, since they run before anything is installed.
"""
