from audit_fixtures import datasets, demo, ready, task  # noqa: F401
