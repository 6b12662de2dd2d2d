"""What travels between gateway and node, and how. Shared by both; Python 3.8, numpy, no TensorFlow."""
