"""The `ModelRunner` over transformers' own modelling code, for every model that no other runner supports."""
