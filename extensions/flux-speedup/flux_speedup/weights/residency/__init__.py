"""Where each weight is: at home or on a device; going, coming back, and the checks."""
