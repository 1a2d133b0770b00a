"""The runner for accelerators: nothing in a decode step makes the host wait for the device.

`weights` joins a checkpoint's tensors, `cache` holds keys and values in blocks, `step_inputs` brings what the host
decides to the device in one copy, `decoder` computes layers in torch's operations and `fused` in kernels of our own,
`steps` makes steps of fixed shapes that `graphs` records once and replays, and `runner` ties them into a `ModelRunner`.
All of it but the graphs also runs on a CPU.
"""
