"""Starts the whole server with one command: python start_slm_api.py [--host H] [--port P] [--workers N] [--debug]."""

import sys

OLDEST_PYTHON = (3, 11)

if __name__ == "__main__":
    # Before any other import: the other modules are syntax errors in an older Python.
    if sys.version_info < OLDEST_PYTHON:
        sys.exit("This needs Python 3.11 or newer; this is Python " + sys.version.split()[0] + ".")
    if sys.platform == "win32":
        sys.exit("This needs Linux or macOS. On Windows use WSL, or the containers: docker compose up --build")
    from deploy.start import main

    sys.exit(main(sys.argv[1:]))
