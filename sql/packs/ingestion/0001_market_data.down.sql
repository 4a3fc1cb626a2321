SET LOCAL search_path = ingestion, public;

\ir ../drop_schema.sql
