"""Networks whose input is a set of nodes and the edges between them."""
