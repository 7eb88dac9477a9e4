"""A visitors' book in plain WSGI, Bottle, Falcon and Flask, each in the same line of middleware. See README.md."""
