"""Settings: their shape, how they are read, and what the request path uses of them."""
