"""Sets up, starts, supervises and checks the whole system, on one machine or in containers.

Rule of this folder: it starts the API and the workers as processes and never imports them, nor torch. `options`,
`bootstrap` and `check` use only the standard library because they run before anything is installed.
"""
