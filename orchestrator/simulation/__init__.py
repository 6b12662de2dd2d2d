"""Federations within one process: the gateway's and the nodes' own code, exchanging their messages without MQTT."""
