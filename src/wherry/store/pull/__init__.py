"""Getting commits from elsewhere: another folder, a medium, a server."""
