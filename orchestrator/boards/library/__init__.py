"""A model and the engine that runs it as a library for firmware that is not Edgeward's: `edgeward model export --as KIND`."""
