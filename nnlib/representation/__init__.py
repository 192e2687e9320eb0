"""Networks whose purpose is the vector in the middle, learned without labels."""
