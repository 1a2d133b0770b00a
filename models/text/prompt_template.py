r"""The prompt format for fine-tuning, as the Jinja text of a tokenizer's `chat_template`.

One pair of the dataset renders to `### Instruction:\n{instruction}\n\n### Response:\n{response}` + end-of-text token.
The training script saves the template with the adapter's tokenizer, so `tokenizer.apply_chat_template` is all that a
server of the adapter needs to render a prompt.
"""

from __future__ import annotations

INSTRUCTION_TEMPLATE = (
    "{%- for message in messages -%}"
    "{%- if message['role'] == 'assistant' -%}"
    "{{- '### Response:\\n' + message['content'] + (eos_token or '') -}}"
    "{%- elif message['role'] == 'system' -%}"
    "{{- message['content'] + '\\n\\n' -}}"
    "{%- else -%}"
    # A response ends with only the end-of-text token, so the gap between two turns belongs to the second.
    "{{- ('\\n\\n' if loop.previtem is defined and loop.previtem['role'] == 'assistant' else '') -}}"
    "{{- '### Instruction:\\n' + message['content'] + '\\n\\n' -}}"
    "{%- endif -%}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- '### Response:\\n' -}}{%- endif -%}"
)
"""User turns become instructions, assistant turns responses; a system turn comes before the first instruction."""
