"""Attacks on a task's own training, to hold what they learn against its claim. Gateway only; only the CLI imports it."""
