"""Revocation feeds: one channel for each engine, and what keeps it open."""
