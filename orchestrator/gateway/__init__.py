"""The I/O round the coordinator: MQTT, broker, store, evaluation. Imports no TensorFlow."""
