"""The native CPU runner: a model's whole step in one call of C, compiled where a compiler is.

`build` compiles the sources in `src/` once, `library` declares their interface, `weights` packs a checkpoint's tensors
(`worker.engine.architecture` says which are which), and `runner` ties them into a `ModelRunner`. Where any of it
cannot work, `NativeUnavailable` says why and another runner takes over.
"""
