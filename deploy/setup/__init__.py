"""What happens before anything is started: installing, and checks that name what to do.

Rule of this folder: `pip_install`, `stage` and `settings_check` use the standard library alone.
"""
