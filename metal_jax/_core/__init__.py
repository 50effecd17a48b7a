"""L0: helpers that every room uses and no user needs to import."""
