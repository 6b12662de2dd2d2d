"""Predictions of a bundle's model for raw rows, on the machine that has them: `edgeward predict`."""
