"""What is noted of every request from its first byte to the last of its answer: a log line, figures, a trace."""
