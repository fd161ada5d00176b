"""Descriptions of architectures: each module is a page about one family and exports FAMILIES."""
