"""What a token costs: the price book.

table.json   the figures, compiled by scripts/prices/build.py; README.md says from what
book         a model's name and a moment in, a Quote out: what the rest of Bursar uses
names        the many names of one model
configured   prices from bursar.yaml, which win; and the check for a slip of the finger
explain      both sources' figures, which was chosen, and why
refresh      newer prices from a file or an https address, without restart
table        the file's format
rates        rates as written, and the TokenPrice that they make
sources      litellm's and genai-prices' files, read as data
merge        the cross-check of the two
"""
