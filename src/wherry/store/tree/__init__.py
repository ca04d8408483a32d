"""Trees of commits: made from folders and archives, gone through, compared, laid out."""
