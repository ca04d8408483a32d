"""Objects as files of a repository: read, staged, made durable, published."""
