"""The bodies of requests and responses under `/v1/messages`."""
