"""What the fields of bodies mean, in the order in which they are shown.

The models' own descriptions say what a value must be: refusals repeat them.
"""

from __future__ import annotations

from api.reference.operation import Schema

_OFF_AT_DEFAULT = "Off by default."

MEANINGS = {
    # what to answer
    "prompt": "What to answer, or to go on with.",
    "messages": "The conversation so far; the model's own chat template puts it together.",
    "model": "Which model answers.",
    "input": "What to answer: a text, or the conversation so far.",
    "instructions": "A system message before the input.",
    "text": "The form that the answer keeps to, such as a JSON schema.",
    "input_file_id": "The file of requests.",
    "endpoint": "The route that every line of the file names.",
    "completion_window": "How long it may take; what is not done then expires.",
    "purpose": "What the file is for.",
    "file": "The file.",
    "raw_text": "A text that the model sees as it is, without a template.",
    "ids": "Tokens of the model.",
    # how long
    "max_new_tokens": "Most tokens of the answer; the model's context binds besides.",
    "max_tokens": "Most tokens of the answer; the model's context binds besides.",
    "max_completion_tokens": "OpenAI's newer name for `max_tokens`.",
    "max_output_tokens": "Most tokens of the answer; without it, what the context holds.",
    "min_new_tokens": "Before these no end token, stop token or stop string ends the answer.",
    "min_tokens": "Before these no end token, stop token or stop string ends the answer.",
    "stop": "The answer ends before the first of these.",
    "stop_token_ids": "Tokens that end the answer; their text is not shown.",
    "ignore_eos": "Whether to go on behind the model's end tokens.",
    # how to choose tokens
    "do_sample": "False: always the most probable token.",
    "temperature": "How much chance there is: 0 is deterministic.",
    "top_k": f"Draw from so many most probable tokens. {_OFF_AT_DEFAULT}",
    "top_p": f"Draw from the fewest tokens that reach this probability together. {_OFF_AT_DEFAULT}",
    "min_p": f"Draw from tokens at least this share as probable as the first. {_OFF_AT_DEFAULT}",
    "repetition_penalty": "Divides the logits of the tokens in prompt and answer.",
    "presence_penalty": "Subtracted from the logits of the answer's tokens.",
    "frequency_penalty": "Subtracted once for every time that a token is in the answer.",
    "logit_bias": "Added to the logits behind the penalties, by token id.",
    "seed": "The same seed and request give the same tokens, whatever else runs. Drawn where it is missing.",
    # what to tell
    "logprobs": "Tell each token's log probability, and so many alternatives.",
    "top_logprobs": "With `logprobs`, so many alternatives to each token.",
    "n": "How many answers to each prompt.",
    "echo": "Whether the prompt's text stands before the answer.",
    "stream": "Whether the answer comes in pieces.",
    "stream_options": "With `include_usage`, the last piece counts the tokens.",
    "response_format": "The form that the answer keeps to, such as a JSON schema.",
    "regex": "What the whole answer matches.",
    "choice": "The answer is one of these.",
    # how to treat the job
    "background": "Whether the response goes on by itself and is answered with at once.",
    "store": "Whether the response can be asked for by its id.",
    "metadata": "Kept with the response and told with it.",
    "async": "Whether to answer 202 with the job's id at once.",
    "priority": "Bulk jobs let others go first; they never starve.",
    "ttl": "How long the job may wait in line.",
    "timeout": "How long the job may run.",
    "webhook_url": "Is told when the job has ended.",
    "on_disconnect": "What becomes of the job when nobody reads it.",
    "user": "For the client's own use.",
}


def explained(schema: Schema) -> Schema:
    """An object whose fields say what they mean, and then what a value must be."""
    order = list(MEANINGS)
    fields = sorted(
        schema.get("properties", {}).items(), key=lambda item: order.index(item[0]) if item[0] in MEANINGS else 0
    )
    return schema | {"properties": {name: _explained(name, one) for name, one in fields}}


def _explained(name: str, schema: Schema) -> Schema:
    meaning, must = MEANINGS.get(name), schema.get("description")
    if meaning is None or must is None:
        return schema
    return schema | {"description": f"{meaning} {must[0].upper()}{must[1:]}."}
