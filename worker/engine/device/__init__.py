"""The runner for accelerators: in a decode step the host never waits for the device.

`weights` joins a checkpoint's tensors, `cache` holds keys and values in blocks, `step_inputs` copies the inputs of a
step to the device in one transfer, `decoder` computes layers with torch operations and `fused` with our own kernels,
`steps` forms steps of fixed shapes, which `graphs` captures once and replays, and `runner` combines them into a
`ModelRunner`. Everything except the graphs also runs on a CPU.
"""
