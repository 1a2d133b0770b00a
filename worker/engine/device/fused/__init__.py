"""The decoder in Triton kernels: five launches a layer, and the same bits for a row in every batch.

`packing` orders a matrix as the tensor cores read it, `linear` multiplies with it and does what belongs to a product
(norms before, rotation, cache, activation, residual after), `attention` reads the paged cache, `sampling` chooses tokens,
and `decoder` ties them together. The kernels run in 16-bit formats on a CUDA device, and in Triton's interpreter
(`TRITON_INTERPRET=1`) on a CPU, where they are tested.
"""
