"""What can be switched: each feature armed with its reason, or why it is off."""
