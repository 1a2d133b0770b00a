"""From conversations to token ids: templates, control tokens, encoding."""
