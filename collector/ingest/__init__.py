"""From the journal to the ledger, each call once.

follower   reads the segments of this machine's sidecars
pairing    frames to what must be booked (pure)
crashed    what a call costs whose end nobody wrote down (pure)
clamp      makes an absurd record fit (pure)
entry      a batch on its way into the tables
books      rows, open intents and marks in one transaction
memory     gives back what is needed no longer
archive    lets go of segments that are booked and old
remote     batches from other machines
shipper    sends the segments of a machine that has no collector
"""
