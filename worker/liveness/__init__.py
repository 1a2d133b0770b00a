"""Heartbeats, leases, the watchdog, and the channel on which workers are told of cancellations."""
