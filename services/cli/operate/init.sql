-- by hand
-- name: role_exists
-- Whether the server has a role; roles belong to all databases of a server.
SELECT 1 FROM pg_roles WHERE rolname = %(name)s

-- name: database_exists
-- Whether the server has a database.
SELECT 1 FROM pg_database WHERE datname = %(name)s

-- name: is_superuser
-- Whether the current user is a superuser; the administrator of a hosted server may not be one.
SELECT rolsuper FROM pg_roles WHERE rolname = current_user

-- name: create_role
-- A role without login. Names in braces are quoted identifiers and literals.
CREATE ROLE {role}

-- name: set_password
-- The password of a login, as a SCRAM verifier.
ALTER ROLE {role} LOGIN PASSWORD {verifier}

-- name: set_connection_limit
-- How many sessions a login may have at once.
ALTER ROLE {role} CONNECTION LIMIT {limit}

-- name: set_parameter
-- A parameter that applies to every session of a login.
ALTER ROLE {role} SET {parameter} = {value}

-- name: create_database
-- The database of the installation.
CREATE DATABASE {database}

-- name: join_owner
-- Only a superuser can hand a database to a role they do not belong to.
GRANT {owner} TO CURRENT_USER

-- name: grant_database
-- The owner of the database, and who may connect. The judgement of a company uses a temporary table.
ALTER DATABASE {database} OWNER TO {owner};
REVOKE ALL ON DATABASE {database} FROM PUBLIC;
GRANT CONNECT ON DATABASE {database} TO replyrate_fetcher, replyrate_portal, replyrate_console,
    replyrate_dashboard, replyrate_company;
GRANT CONNECT, TEMPORARY ON DATABASE {database} TO replyrate_aggregator;
