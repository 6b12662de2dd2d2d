from model_export_fixtures import built, int8_blob  # noqa: F401
