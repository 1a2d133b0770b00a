"""From a sequence's tokens to what its client sees: text, stop strings, the end."""
