"""A file's weights to the device: this extension, the machine's plain copies, other loaders."""
