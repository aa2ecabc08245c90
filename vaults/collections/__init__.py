"""Collections: values that grow: streams, lists and columns, and the tree under them."""
