"""What a task learns of each record: one file a kind, and a line in the registry."""
