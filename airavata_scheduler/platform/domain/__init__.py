"""What the platform talks about: documents, sweeps, tasks, resources, failures."""
