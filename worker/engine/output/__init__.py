"""From a sequence's tokens to its visible output: text, stop strings, the end."""
