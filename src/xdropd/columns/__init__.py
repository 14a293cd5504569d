"""Listings as sorted columns of numbers: what readers of texts make and everybody else computes with. Pure."""
