"""Wherry: one signed revision for a whole Linux device."""
