"""A server on the user's own machine: a page to look at results, and a REST service."""
