"""On which terms a host may be passed on: licences, texts, sources, a policy, and the list of what is in it."""
