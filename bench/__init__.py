"""Programs that measure; `python -m bench` lists them. Compare figures of one run, never of two machines."""
