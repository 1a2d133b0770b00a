"""The native CPU runner: a model's whole step in one call of C, compiled where a compiler is.

`build` compiles the sources in `src/` once, `library` declares their interface, `architecture` maps a checkpoint's
tensors to the native model's parts, `weights` packs them, and `runner` ties them into a `ModelRunner`. Where any of it
cannot work, `NativeUnavailable` says why and another runner takes over.
"""
