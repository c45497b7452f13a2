"""The service stopped in order while it is used, and the next version at work where it was."""
