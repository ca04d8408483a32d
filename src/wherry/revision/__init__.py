"""Device state: the workspace, what a revision is made of, its signature, and how it travels."""
