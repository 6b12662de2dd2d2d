"""The coordinator as a pure state machine, and one file per strategy. No I/O, no clock, no threads."""
