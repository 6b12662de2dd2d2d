"""Attacks on a task's own training, to hold what they learn against what the task claims. Gateway only; nothing imports it but the CLI."""
