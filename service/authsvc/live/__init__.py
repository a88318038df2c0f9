"""The live state in Redis: tokens, the client directory and the streams of records; all that is asked of Redis is asked here."""
