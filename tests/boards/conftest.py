from boards_fixtures import sample  # noqa: F401
from recordings import folder  # noqa: F401
