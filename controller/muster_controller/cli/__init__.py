"""``muster``: the operator's and publisher's command line, a client of the API."""
