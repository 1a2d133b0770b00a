# The HTTP API and the slm command: no torch, no model.
FROM python:3.11-slim-bookworm

ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /app

COPY requirements/ requirements/
RUN pip install --no-deps --require-hashes -r requirements/hashes/api.txt

COPY common/ common/
COPY api/ api/
COPY deploy/ deploy/
COPY slm/ slm/
COPY clients/python/slm_client/ clients/python/slm_client/

RUN useradd --uid 10001 --create-home slm && install -d -o slm -g slm /data
USER 10001
EXPOSE 5000
CMD ["python", "-m", "gunicorn", "--config", "api/gunicorn_conf.py", "api.wsgi:create_app()"]
