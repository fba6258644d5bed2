"""What the benchmark programs share. It needs nothing but PyTorch and is imported from this folder as it is."""
