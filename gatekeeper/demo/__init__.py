"""The demo: a sample app, its database in Better Auth's schema, and the gate in front of it."""
