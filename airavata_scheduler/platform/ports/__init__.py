"""One file per thing outside the hexagon, as Protocols."""
