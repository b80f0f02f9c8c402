"""Long-lived Ray actors, thin shells over the services."""
