"""The Redis server that comes with the installation."""
