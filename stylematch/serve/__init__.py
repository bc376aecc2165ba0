"""The service: a picture in by HTTP, faces, styles and items out, by the modules that score a folder.

``server`` listens, ``app`` knows the routes, ``intake`` takes a picture out of a request, ``batching`` scores what
waits together, ``answers`` says what came out, ``metrics`` and ``headers`` go around every answer, ``page`` is for
people.
Everything here needs the ``serve`` extra.
"""
