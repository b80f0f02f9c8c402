"""Start and stop of a platform on this machine: up, down, status, doctor."""
