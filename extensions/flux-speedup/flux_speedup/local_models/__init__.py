"""The room of the small weights beside the model (ADetailer, upscalers). Imports no WebUI module."""
