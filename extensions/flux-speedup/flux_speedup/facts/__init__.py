"""What tab, Settings, API and bug report read."""
