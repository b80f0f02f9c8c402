"""Any policy on any instance, on a virtual clock: how good the planner is, measured against the best of the others."""
