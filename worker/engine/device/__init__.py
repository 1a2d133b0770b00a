"""The runner for accelerators: a model's forward in torch, with nothing in a decode step that the host must wait for.

`weights` joins a checkpoint's tensors, `decoder` computes layers over them, `cache` holds keys and values in slots,
`slot_map` knows which slot each block is in, `decode_steps` makes a decode step of fixed shapes that `graphs` records
once and replays, and `runner` ties them into a `ModelRunner`. Everything also runs on a CPU, without graphs.
"""
