"""Models that do not fit: some units stay on the device, the others come through a ring as they are needed."""
