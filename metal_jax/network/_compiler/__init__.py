"""Task tree to network: where heads hang, what they read, parameters by task name."""
