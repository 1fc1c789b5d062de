"""The shared vocabulary: facts as values, rules as pure functions, standard library only.

money    pico-USD, nano-USD and Decimal, and the way between them
usage    the token classes of one model call
price    what a token class costs, and what a usage therefore costs
record   what the journal says of a call: intent before, record after
names    the field's words, each with its source

attribution   a change in spend split into what moved, to the last pico-dollar
"""
