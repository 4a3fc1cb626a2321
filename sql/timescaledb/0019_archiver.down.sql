DROP FUNCTION ingestd_drop_chunks(text, timestamptz);
