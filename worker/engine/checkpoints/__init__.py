"""Tensors of a checkpoint by what they are, for the runners with code of their own."""
