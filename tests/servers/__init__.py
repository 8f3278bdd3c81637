"""The real servers that sessions are kept in, started for tests on loopback, each by its own process id."""
