"""What may be wrong with this machine before a federation runs on it, and what to do about it."""
