-- by hand

-- name: files
-- The files with units of a company.
SELECT file.path, file.sha256 FROM ledger.archive_parts part JOIN ledger.archive_files file USING (file_id)
WHERE part.company_id = %(company_id)s ORDER BY file.path
