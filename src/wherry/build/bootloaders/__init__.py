"""What boot loaders read: from a board and a host to the files of its boot partition."""
