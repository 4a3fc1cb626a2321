SET LOCAL search_path = platform, public;

\ir ../../time_functions.sql
