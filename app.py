"""The application for `gunicorn -w 4 -b 0.0.0.0:5000 app:app`; gunicorn.conf.py next to it starts everything else."""

from __future__ import annotations

import sys

from api.wsgi import create_app
from common.binding import InsecureBinding
from common.settings import SettingsError

try:
    app = create_app()
except (SettingsError, InsecureBinding) as err:
    sys.exit(f"Cannot start: {err}")
