"""The web page: models on nodes, why they stand as they do, and how far they are."""
