"""How Sphinx makes the site. Nothing of a page may come from elsewhere, so that it can be read without a network."""

project = "OME Base Models"
project_copyright = "the authors of OME Base Models, Apache-2.0"
html_title = project

extensions = ["myst_parser"]
source_suffix = {".md": "markdown"}
root_doc = "index"
# Downloads, which are no pages.
exclude_patterns = ["files"]

# The fragments of headings are those of GitHub, where the same documents are read.
myst_heading_anchors = 6
myst_links_external_new_tab = False

# Examples shorten what does not matter, so not every block of JSON is JSON.
suppress_warnings = ["misc.highlighting_failure"]
highlight_language = "none"

# Quotation marks in examples are what one has to write.
smartquotes = False

html_theme = "furo"
html_static_path = ["static"]
html_css_files = ["tables.css"]
html_show_sphinx = False
# A search would fetch each page that it finds, which browsers refuse for files.
html_show_search_summary = False
html_copy_source = False
html_use_index = False
