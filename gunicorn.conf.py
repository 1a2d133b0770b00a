"""Makes `gunicorn -w 4 -b 0.0.0.0:5000 app:app` the server that `python start_slm_api.py` starts, in every respect.

gunicorn reads this file when it is started in this folder. The process then becomes `start_slm_api.py`, which checks
the set-up, starts Redis and a worker, and runs gunicorn with the same options as its API.
"""

import os
import sys

OLDEST_PYTHON = (3, 11)

# Before any other import: the other modules are syntax errors in an older Python.
if sys.version_info < OLDEST_PYTHON:
    sys.exit("This needs Python 3.11 or newer; this is Python " + sys.version.split()[0] + ".")

from deploy.gunicorn_command import start_command  # noqa: E402

command = start_command(sys.argv[1:])
os.execv(command[0], command)  # noqa: S606 - no shell is wanted
