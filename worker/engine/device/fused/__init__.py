"""The decoder in Triton kernels: five or six launches per layer, and the same bits for a token in every batch.

`packing` orders a matrix as the tensor cores read it, `kernels` has the kernels, and `decoder` launches them for a
whole model; `worker.engine.sampling.fused` launches the one that samples. They run in 16-bit formats on a CUDA device,
and for tests in Triton's interpreter (`TRITON_INTERPRET=1`) on a CPU.
"""
