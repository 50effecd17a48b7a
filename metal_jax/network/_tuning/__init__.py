"""Many settings trained at once, the bad ones stopped."""
