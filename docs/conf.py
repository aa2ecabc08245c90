"""How Sphinx builds the site: `sphinx-build -W --keep-going -b html docs FOLDER`, with the extra `docs` installed."""
import os
import re
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))  # this tree, not what is installed

from sphinx.pycode.parser import VariableCommentPicker

import vaults

project = 'vaults'
author = 'the vaults authors'
project_copyright = '2026, the vaults authors'
version = release = vaults.__version__

extensions = ['myst_parser', 'sphinx.ext.autodoc', 'sphinx.ext.viewcode']
myst_heading_anchors = 4  # pages link to their headings as on a code host
exclude_patterns = ['_build']
html_theme = 'furo'
html_title = f'vaults {release}'
html_static_path = ['_static']
html_css_files = ['site.css']

autodoc_member_order = 'bysource'
autoclass_content = 'both'  # what __init__ says as well
# At run time these stand for object, for `import vaults` does without typing; a signature is to show their names.
autodoc_type_aliases = {name: name for name in ('K', 'V', 'T', 'K_co', 'V_co')}
python_maximum_signature_line_length = 100

# Our `overload` comes from a module of ours, for the same reason; Sphinx knows that of typing alone.
VariableCommentPicker.is_overload = lambda _, found: any(getattr(one, 'id', '') == 'overload' for one in found)


def readable(app, kind, name, thing, options, signature, returns):
    """Show a type that stands for itself by its name, and the default that means 'none was given' as `...`."""
    return [text and re.sub(r"TypeAliasForwardRef\('(\w+)'\)", r'\1', text).replace('Ellipsis', '...')
            for text in (signature, returns)]



def marked_up(app, kind, name, thing, options, lines):
    """Make reStructuredText of a docstring, which is plain text with `code` in it, examples, and indented tables."""
    text = []
    for paragraph in '\n'.join(lines).strip('\n').split('\n\n'):
        if paragraph.startswith(' '):
            text += ['::', paragraph]
        elif paragraph.startswith('>>>'):
            text.append(paragraph)
        else:
            parts = paragraph.split('`')  # every second one is code
            parts[::2] = [re.sub(r'([*_|\\])', r'\\\1', part) for part in parts[::2]]
            options = re.split(r'^(?=``\w+``:)', '``'.join(parts), flags=re.M)
            text += [f'* {" ".join(option.split())}' if option.startswith('``') and len(options) > 1 else option
                     for option in options if option]
    lines[:] = '\n\n'.join([*text, '']).split('\n')


def setup(app):
    app.connect('autodoc-process-signature', readable)
    app.connect('autodoc-process-docstring', marked_up)
