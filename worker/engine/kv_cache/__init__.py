"""Which blocks of the cache belong to which sequence. Blocks are numbers here; the runner owns the memory."""
