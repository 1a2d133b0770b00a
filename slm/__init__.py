"""The `slm` command: asks a server over HTTP, and manages the API keys on the server's machine.

It knows the client (`slm_client`), `common`, and from `deploy` the way to the server's Redis; neither the API nor the
worker, except that `slm merge` loads the function that merges.
"""
