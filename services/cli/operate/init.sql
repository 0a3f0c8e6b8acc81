-- name: role_exists
-- Whether the server has a role; roles belong to all its databases.
SELECT 1 FROM pg_roles WHERE rolname = %(name)s

-- name: database_exists
-- Whether the server has a database.
SELECT 1 FROM pg_database WHERE datname = %(name)s

-- name: is_superuser
-- Whether who asks may do everything on the server; the administrator of a hosted one may not.
SELECT rolsuper FROM pg_roles WHERE rolname = current_user
