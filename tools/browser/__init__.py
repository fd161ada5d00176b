"""A browser for tests of the web page: Debian's Chromium and what drives it, in the user's cache."""
