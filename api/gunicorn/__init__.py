"""Extends gunicorn with the API's worker class and logger. Its configuration is `api/gunicorn_conf.py`."""
