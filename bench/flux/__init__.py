"""Flux models of random numbers: the real names, shapes and dtypes, in files that every loader takes."""
