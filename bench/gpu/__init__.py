"""The parts of gpu_load.py: files of FLUX.1-dev's shapes, and the ways they reach a device."""

from measure.places import add_product

# Every part imports the product, which is not installed here.
add_product()
