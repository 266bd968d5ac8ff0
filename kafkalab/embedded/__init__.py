"""The real stack on this machine: servers as processes, and nothing else."""

HOST = "127.0.0.1"  # every server listens on loopback only
