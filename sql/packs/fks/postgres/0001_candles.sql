SET LOCAL search_path = fks, public;

\ir ../../time_functions.sql
