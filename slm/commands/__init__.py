"""The commands, a module for each group. Each only translates: arguments to requests, responses to output."""
