# The Celery worker with torch and transformers. The services `model` and `trainer` use it, too.
FROM python:3.11-slim-bookworm

# The package index for torch. This one has the CPU build; https://pypi.org/simple has the CUDA build (compose.gpu.yaml).
ARG TORCH_INDEX_URL=https://download.pytorch.org/whl/cpu

# What the image of the trainer needs besides: -r requirements/train.txt
ARG EXTRA_REQUIREMENTS=

ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /app

# The CPU kernels are compiled in the container when the model is first loaded.
RUN apt-get update && apt-get install -y --no-install-recommends gcc libc6-dev && rm -rf /var/lib/apt/lists/*

# torch first, without its dependencies: the second step finds it installed and gets them from the usual index.
COPY requirements/ requirements/
RUN pip install --no-deps --index-url "$TORCH_INDEX_URL" --constraint requirements/constraints.txt torch \
    && pip install -r requirements/worker.txt ${EXTRA_REQUIREMENTS}

COPY common/ common/
COPY models/ models/
COPY training/ training/
COPY SLMInit/ SLMInit/
COPY worker/ worker/

# A new volume gets the owner of the folder on which it is mounted.
RUN useradd --uid 10001 --create-home slm && install -d -o slm -g slm /data
USER slm
VOLUME /data
CMD ["python", "-m", "celery", "-A", "worker.app", "worker", "--hostname", "slm1@%h", "--without-mingle", "--without-gossip", "--loglevel", "INFO"]
