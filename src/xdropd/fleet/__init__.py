"""A fleet: what the local API of CrowdSec says is blocked here, and what is blocked here is told there."""
