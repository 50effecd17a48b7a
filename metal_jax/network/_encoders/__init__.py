"""From raw inputs to one feature vector for each item."""
