"""What a federation computes besides training: one file each, both halves side by side; registry.py lists them."""
