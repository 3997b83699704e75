"""Memory3: explicit memory for language models."""
