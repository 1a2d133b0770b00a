"""The bodies of requests and responses under `/api`."""
