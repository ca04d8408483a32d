"""The device's side of a fleet: updates that are tried and taken back, and the agent that asks the hub for them."""
