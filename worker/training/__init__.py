"""The trainer: a process that runs training and evaluation jobs, one at a time.

The process itself claims jobs, renews leases and writes events; it never loads torch. Each attempt of a job computes in
a child process (`child/`) with a low priority, which ends with its parent, and whose memory is free when it has ended.
"""
