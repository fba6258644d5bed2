"""From files and RAM to a device: plan, readers, staging, copies, registered and pinned memory."""
