-- name: first_key
SELECT id, nonce, box FROM project_keys WHERE project = $1

-- name: key_by_id
SELECT project, nonce, box FROM project_keys WHERE id = $1

-- name: add_key
INSERT INTO project_keys (id, project, nonce, box) VALUES ($1, $2, $3, $4) ON CONFLICT (project) DO NOTHING

-- name: destroy_keys
DELETE FROM project_keys WHERE project = $1
