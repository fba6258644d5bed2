"""Weights in fewer bytes than their file has, bit for bit: made beside the cache, read in the file's place."""
