"""The six domain interfaces over the ports."""
