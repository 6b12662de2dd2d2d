"""Clipping, noise and accounting. What a node uses runs on Python 3.8 and numpy; accounting lives on the gateway."""
