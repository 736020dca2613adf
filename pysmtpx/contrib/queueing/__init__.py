"""Mail in a queue between processes, whichever queue that is."""
