"""Faces for frameworks: each module needs its framework, and nothing else of pysmtpx imports them."""
