from boards_fixtures import sample  # noqa: F401
