"""The live state in Redis: tokens, the client directory and the streams of records; the only place with its driver."""
