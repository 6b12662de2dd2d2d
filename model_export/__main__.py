"""`python -m model_export VERB SPEC.json OUT_DIR`: see model_export.worker."""

import sys

from model_export.worker import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
