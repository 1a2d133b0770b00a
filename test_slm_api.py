"""Tests the project: python test_slm_api.py [-- PYTEST ARGUMENTS], or a running server: --url URL [--prompt TEXT]."""

import sys

OLDEST_PYTHON = (3, 11)

if __name__ == "__main__":
    # Before any other import: the other modules are syntax errors in an older Python.
    if sys.version_info < OLDEST_PYTHON:
        sys.exit("This needs Python 3.11 or newer; this is Python " + sys.version.split()[0] + ".")
    if sys.platform == "win32":
        sys.exit("This needs Linux or macOS. On Windows use WSL, or the containers: docker compose up --build")
    from deploy.verify import main

    sys.exit(main(sys.argv[1:]))
