"""The pages that people see: signing in and up, passwords, addresses, and the devices that are signed in.

A page has no policy of its own: what a form asks for is the account call of the same name, run for the same request.
"""
