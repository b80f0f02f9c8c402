"""The six domain interfaces as calls of named Ray actors."""
