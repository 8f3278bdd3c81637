"""The steps, in the order that their `down_revision` gives.  What was released is never changed."""
