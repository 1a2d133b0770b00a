"""The httpx client's options are those that the server accepts."""

from __future__ import annotations

from slm_client import GenerateOptions

from api.reference import client_options
from api.schemas.generation import GenerateBody


def test_the_file_is_as_it_is_written_from_the_servers_model() -> None:
    assert client_options.FILE.read_text() == client_options.written()


def test_the_client_knows_every_option() -> None:
    fields = {field.alias or name for name, field in GenerateBody.model_fields.items()}
    assert GenerateOptions.__annotations__.keys() == fields - {"prompt", "async"}
