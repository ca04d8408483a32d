"""What a repository is made of, as bytes: GVariant, objects, and what commits say."""
