"""Heartbeats, leases, the watchdog, and the channel on which workers hear of cancellations."""
