from hostile_gateway_fixtures import attacked_broker, evil_graphs, linear_graph, victim  # noqa: F401
