SET LOCAL search_path = ingestion, public;

\ir ../../time_functions.sql
