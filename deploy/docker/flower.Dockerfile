# Flower: shows the queue's jobs and workers. It only reads Redis and needs none of our code.
FROM python:3.11-slim-bookworm

ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /app

COPY requirements/ requirements/
RUN pip install --no-deps --require-hashes -r requirements/hashes/flower.txt && useradd --uid 10001 --create-home slm
USER 10001
EXPOSE 5555
CMD ["sh", "-c", "CELERY_BROKER_URL=$(cat /run/secrets/SLM_REDIS_URL) exec python -m celery flower --address=0.0.0.0"]
