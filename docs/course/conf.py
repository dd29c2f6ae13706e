"""How Sphinx builds the course: a site that opens from a folder, with no network. ``./launch/docs.sh`` does it."""

project = "dist_llm: the course"
html_title = "From NumPy to a language model on four ranks"
extensions = ["myst_parser", "sphinxcontrib.katex"]
exclude_patterns = ["_build"]

myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3

html_theme = "furo"
html_static_path = ["_static"]
html_css_files, html_js_files = ["course.css"], ["course.js"]
html_copy_source = False
html_show_sphinx = False
html_show_copyright = False
# The script comes with sphinxcontrib-katex; style and fonts of the same version lie here.
katex_css_path = "katex/katex.min.css"
