"""The server people write first: Flask, `generate` and a lock."""

from __future__ import annotations

import argparse
import json
import threading
from collections.abc import Iterator
from typing import Any

from flask import Flask, Response, request
from transformers import AutoModelForCausalLM, AutoTokenizer, TextIteratorStreamer

from benchmarks.rivals.system import LOCALHOST


def make_app(folder: str) -> Flask:
    """Load the model and return the application."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype="float32")
    lock = threading.Lock()
    app = Flask(__name__)

    @app.get("/health")
    def health() -> str:
        return "ok"

    @app.post("/v1/completions")
    def complete() -> Response:
        body = request.get_json()
        inputs = tokenizer(body["prompt"], return_tensors="pt")
        limit = body["max_tokens"]
        usage = {"completion_tokens": limit}  # no end-of-sequence token may end a response earlier

        def events() -> Iterator[str]:
            with lock:
                streamer = TextIteratorStreamer(tokenizer, skip_prompt=True)
                options = {"max_new_tokens": limit, "min_new_tokens": limit, "do_sample": False, "streamer": streamer}
                thread = threading.Thread(target=model.generate, kwargs=dict(inputs) | options)
                thread.start()
                for text in streamer:
                    yield f"data: {json.dumps({'choices': [{'text': text}]})}\n\n"
                thread.join()
            yield f"data: {json.dumps({'choices': [], 'usage': usage})}\n\ndata: [DONE]\n\n"

        return Response(events(), mimetype="text/event-stream")

    return app


def main() -> None:
    """Serve the model on this machine."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True)
    parser.add_argument("--port", type=int, required=True)
    options = parser.parse_args()
    make_app(options.model).run(LOCALHOST, options.port, threaded=True)


if __name__ == "__main__":
    main()
