"""The native CPU runner: computes a whole step of the model in one C call. Requires a C compiler.

`build` compiles the sources in `src/` once, `library` declares their interface, `weights` packs a checkpoint's tensors
(named by `checkpoints.architecture`), and `runner` combines them into a `ModelRunner`. If any of these cannot work,
`NativeUnavailable` says why and another runner is used.
"""
