"""The Triton kernels. Triton compiles these functions; they are never called from Python, and have no type hints.

Names in capitals are compile-time constants.
"""
