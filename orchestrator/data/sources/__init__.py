"""Where tables come from besides CSV: one file a format, registry.py lists them."""
