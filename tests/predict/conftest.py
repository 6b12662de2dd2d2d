from predict_fixtures import known_table, signal_bundle  # noqa: F401
