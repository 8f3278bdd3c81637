"""What the gate tells of itself: metrics, access and audit lines, log lines, and what is left out of them."""
