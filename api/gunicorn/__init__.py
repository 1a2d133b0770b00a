"""gunicorn, as this API runs it: its worker class and its logger. `api/gunicorn_conf.py` is the configuration."""
