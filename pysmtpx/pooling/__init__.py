"""What a pool is made of: the queue of messages, the connections, the workers between them, and calls."""
