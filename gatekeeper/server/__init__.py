"""The running gate: listeners, front ends, upstream connections."""
