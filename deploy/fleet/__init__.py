"""Simulated devices by the thousand: what they are, what goes wrong on them, and what they tell the server."""
