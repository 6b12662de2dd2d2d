from data_fixtures import postgres  # noqa: F401
