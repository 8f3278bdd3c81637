"""Several workers: processes that serve the same listener, and a supervisor that keeps them running.

`supervisor` runs in the process that was started and imports nothing of what serves; `worker` is what it starts.
"""
