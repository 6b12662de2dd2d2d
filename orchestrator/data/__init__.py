"""A node's private data as arrays: read, checked against a schema. Python 3.8, numpy; never TensorFlow."""
