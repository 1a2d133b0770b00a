"""Tools: what a request says about them becomes a prompt and a grammar, and an answer's text becomes calls."""
