SET LOCAL search_path = kairos, public;

\ir ../../time_functions.sql
