"""Which blocks of the cache belong to which sequence. Integers only: the memory is the runner's. No torch."""
