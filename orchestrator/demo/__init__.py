"""The demo: real data through every station, driving gateway, nodes and board as processes. Only the CLI imports it."""
