"""Edgeward: federated training at the edge, ending on a microcontroller."""

__version__ = "0.1.0"
