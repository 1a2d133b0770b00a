"""What the device computes. Triton compiles these functions; Python calls none of them, and types mean nothing in them.

Names in capitals are constants that a kernel is compiled for.
"""
