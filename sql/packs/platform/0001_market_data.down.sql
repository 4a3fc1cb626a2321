SET LOCAL search_path = platform, public;

\ir ../drop_schema.sql
