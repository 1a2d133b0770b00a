"""Limits on an answer's tokens: the protocol, and grammars followed in processes of their own."""
