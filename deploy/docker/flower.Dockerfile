# Flower: shows the queue's jobs and workers. It reads Redis alone and needs none of our code.
FROM python:3.11-slim-bookworm

ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /app

COPY requirements/ requirements/
RUN pip install -r requirements/flower.txt

RUN useradd --uid 10001 --create-home slm
USER slm
EXPOSE 5555
CMD ["python", "-m", "celery", "--broker=redis://redis:6379/0", "flower", "--address=0.0.0.0"]
