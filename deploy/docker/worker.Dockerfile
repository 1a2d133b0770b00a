# The worker, with torch and transformers; also the trainer (HASHES=trainer). The target `model` has the default model.
FROM python:3.11-slim-bookworm AS worker

# The build of torch: cpu, or cuda (deploy/compose.gpu.yaml).
ARG TORCH=cpu

# The packages: requirements/hashes/$HASHES.txt
ARG HASHES=worker

ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /app

# The CPU kernels are compiled in the container when the model is first loaded. Debian keeps one version per release.
# hadolint ignore=DL3008
RUN apt-get update && apt-get install -y --no-install-recommends gcc libc6-dev && rm -rf /var/lib/apt/lists/*

# The CPU build has no hash here: it comes from the index of PyTorch, over TLS, in the version of the constraints.
COPY requirements/ requirements/
RUN if [ "$TORCH" = cuda ]; then pip install --no-deps --require-hashes -r requirements/hashes/cuda.txt; \
    else pip install --no-deps --index-url https://download.pytorch.org/whl/cpu -c requirements/constraints.txt torch; fi
RUN pip install --no-deps --require-hashes -r "requirements/hashes/$HASHES.txt"

COPY common/ common/
COPY models/ models/
COPY training/ training/
COPY SLMInit/ SLMInit/
COPY worker/ worker/

# A new volume gets the owner of the folder on which it is mounted. It is also the home: for the caches of the model hub and of Triton.
RUN useradd --uid 10001 --home-dir /data --no-create-home slm && install -d -o slm -g slm /data
USER 10001
VOLUME /data
CMD ["python", "-m", "worker.celery", "-A", "worker.app", "worker", "--hostname", "slm1@%h", "--without-mingle", "--without-gossip", "--loglevel", "INFO"]

# The service `model`: at its start it copies the model into the volume, so nothing is downloaded then.
FROM worker AS model
USER 0
RUN python -m models.base_model --base-model SmolLM2-135M-Instruct --data-dir /opt
COPY deploy/docker/ /opt/docker/
USER 10001
ENTRYPOINT ["sh", "/opt/docker/place-model.sh", "/opt/models", "/data/models"]
CMD ["python", "-m", "models.base_model"]
