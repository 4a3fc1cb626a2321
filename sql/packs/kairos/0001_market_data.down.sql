SET LOCAL search_path = kairos, public;

\ir ../drop_schema.sql
