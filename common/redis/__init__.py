"""Redis: addresses, connections, key names, Lua scripts, failures and outages.

Rule of this folder: it imports nothing from `common.jobs`. `keys` and `lua/` use the same key names.
"""
