"""The agent next to private data. Python 3.8, numpy, a TensorFlow Lite runtime; never TensorFlow, never a record out."""
