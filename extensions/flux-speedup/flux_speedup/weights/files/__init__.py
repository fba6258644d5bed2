"""Weight files: header, mapping, identity, spans, digests, what was written into a view, reading ahead."""
