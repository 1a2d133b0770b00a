"""Redis: addresses, connections, key names, Lua scripts, failures and outages.

Rule of this folder: it knows no job. `keys` and `lua/` spell the same names.
"""
