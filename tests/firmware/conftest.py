from firmware_fixtures import make_rows, mlperf_tiny, small_models, tflm  # noqa: F401
