from web_fixtures import chromium, remembering, stage  # noqa: F401
