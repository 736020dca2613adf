"""What a pool is made of: the feed of messages, the rack of connections, the workers between them."""
