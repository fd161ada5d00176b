"""The one version of the project: that of its charts and images, and of the rules by which facts are made."""

VERSION = "0.1.0"
