"""Real embedder processes with a tiny encoder behind a real API, and clients that others have written."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from openai import BadRequestError, OpenAI

from common.embedding.embedders import Embedders
from models.encoder import read_encoder
from tests.api_process import running_api
from tests.processes import Cluster, running_cluster, wait_for
from tests.redis_server import RedisServer
from tests.tiny_encoder import WIDTH, save_encoder
from worker.engine.embedding.encoder import Encoder

ENV = {"SLM_LEASE_S": "2", "SLM_DRAIN_S": "5", "SLM_EMBED_THREADS": "1"}
TEXTS = ["hello", "the quick brown fox", "a"]
APP = "worker.embedding.app"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("models") / "tiny"
    made.mkdir()
    return save_encoder(made)


@pytest.fixture
def cluster(redis_server: RedisServer, tmp_path: Path, folder: Path) -> Iterator[Cluster]:
    with running_cluster(redis_server.url, tmp_path, **ENV, SLM_EMBED_MODEL=str(folder)) as cluster:
        yield cluster


@pytest.fixture
def client(redis_server: RedisServer, tmp_path: Path) -> Iterator[OpenAI]:
    with (
        running_api(tmp_path, redis_url=redis_server.url, data_dir=tmp_path) as api,
        OpenAI(base_url=f"{api.url}/v1", api_key="none", timeout=180, max_retries=0) as client,
    ):
        yield client


def test_clients_get_the_encoder_s_vectors_also_if_an_embedder_hangs(
    cluster: Cluster, folder: Path, client: OpenAI
) -> None:
    first, embedders = cluster.start_worker("first", APP), Embedders(cluster.redis)
    wait_for("the embedder", embedders.live)
    encoder = Encoder(read_encoder(folder), "cpu")
    tokens = [encoder.tokens_of(text, "input", prompt_name=None, truncate=False) for text in TEXTS]
    expected = encoder.vectors(tokens)

    answer = client.embeddings.create(model="tiny", input=TEXTS)  # as base64, unless told otherwise
    found = torch.tensor([one.embedding for one in answer.data])
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)
    assert answer.usage.prompt_tokens == sum(map(len, tokens))
    plain = client.embeddings.create(model="tiny", input=tokens[0], encoding_format="float", dimensions=4)
    assert len(plain.data[0].embedding) == 4 < WIDTH
    with pytest.raises(BadRequestError, match=r"input\[1\] has"):
        client.embeddings.create(model="tiny", input=["a", "a" * 99])
    assert [one.id for one in client.models.list().data] == ["tiny"]

    first.signal(signal.SIGSTOP)  # it keeps its place until its lease has expired
    cluster.start_worker("second", APP)
    wait_for("the second embedder", lambda: any(one.id.startswith("second@") for one in embedders.live()))
    again = torch.tensor([one.embedding for one in client.embeddings.create(model="tiny", input=TEXTS).data])
    torch.testing.assert_close(again, expected, atol=1e-5, rtol=1e-4)
