"""What an agent may ask about its own money, as tools of the Model Context Protocol.

| module    | holds                                                                |
|-----------|----------------------------------------------------------------------|
| asking    | one HTTP exchange with the sidecar, and what to say when there is none |
| estimates | what a call may cost, from the price book                              |
| tools     | the server and its three tools; the only one that imports the SDK      |
"""
