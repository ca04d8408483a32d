"""Keys and signatures: who may say what a device runs."""
