"""The agent that runs tasks; standard library only."""
