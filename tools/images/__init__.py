"""Builds the images of the services without a container engine: Debian's packages, our executables, OCI archives."""
