SET LOCAL search_path = fks, public;

\ir ../drop_schema.sql
