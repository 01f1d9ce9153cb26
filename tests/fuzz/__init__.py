"""Bad input of every kind, made by hypothesis: always an error that names the thing, never anything worse.

In the suite each test makes the same few examples each time. `make fuzz MINUTES=30` goes on with others.
"""
