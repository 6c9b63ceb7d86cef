-- The rights of processes that are not the owner of the database: run this as the owner, after
-- each `datamgr db upgrade` (it may be repeated), and give each process a login of its role:
--
--   psql -d datamgr -f deploy/postgres/roles.sql
--   CREATE ROLE "datamgr-web" LOGIN IN ROLE datamgr_web;
--   CREATE ROLE "datamgr-perms" LOGIN IN ROLE datamgr_perms;
--
-- Everything else (scans, `datamgr project`, the general worker) connects as the owner. Rows of
-- perm_*, audit_event and ended tasks are kept as they are by triggers, whatever is granted here.

DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'datamgr_web') THEN
        CREATE ROLE datamgr_web NOLOGIN;
    END IF;
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'datamgr_perms') THEN
        CREATE ROLE datamgr_perms NOLOGIN;
    END IF;
END $$;

-- Nobody else is to make tables here, or functions that these roles would find.
REVOKE CREATE ON SCHEMA public FROM PUBLIC;
REVOKE ALL ON ALL TABLES IN SCHEMA public FROM datamgr_web, datamgr_perms;

-- The web pages and the API: read, submit and cancel tasks, write the audit.
GRANT SELECT ON ALL TABLES IN SCHEMA public TO datamgr_web;
-- Not the number and the time of a task or an event: those are the database's.
GRANT INSERT (
    kind, key, owner, params, state, progress, result, error, attempts, worker,
    started_at, heartbeat_at, finished_at
) ON task TO datamgr_web;
GRANT UPDATE (state, finished_at) ON task TO datamgr_web;
GRANT INSERT ON tier_request_path TO datamgr_web;
GRANT INSERT (actor, actor_uid, action, subject, detail) ON audit_event TO datamgr_web;
-- Logins: sessions and tickets come and go, and who is which account is for staff to say.
GRANT INSERT (token_hash, username, uid, method, client, agent, expires_at), DELETE
    ON web_session TO datamgr_web;
GRANT UPDATE (seen_at) ON web_session TO datamgr_web;
GRANT INSERT, DELETE ON web_ticket TO datamgr_web;

-- `datamgr perms worker`: run tasks of its kind, and write the journal.
GRANT SELECT ON
    alembic_version, project, project_member, task,
    perm_batch, perm_change, perm_unapplied, perm_issue
    TO datamgr_perms;
GRANT UPDATE (
    state, progress, result, error, attempts, worker, started_at, heartbeat_at, finished_at
) ON task TO datamgr_perms;
GRANT INSERT ON perm_batch, perm_change, perm_unapplied, perm_issue TO datamgr_perms;
GRANT UPDATE (state) ON perm_batch TO datamgr_perms;

-- Which tasks: the web begins them and asks them to stop, and cannot say that one succeeded.
ALTER TABLE task ENABLE ROW LEVEL SECURITY;
DROP POLICY IF EXISTS all_read ON task;
DROP POLICY IF EXISTS web_submits ON task;
DROP POLICY IF EXISTS web_cancels ON task;
DROP POLICY IF EXISTS perms_runs ON task;
CREATE POLICY all_read ON task FOR SELECT TO datamgr_web, datamgr_perms USING (true);
CREATE POLICY web_submits ON task FOR INSERT TO datamgr_web
    WITH CHECK (
        state = 'queued' AND attempts = 0
        AND num_nonnulls(progress, result, error, worker, started_at, heartbeat_at, finished_at) = 0
    );
CREATE POLICY web_cancels ON task FOR UPDATE TO datamgr_web
    USING (true) WITH CHECK (state IN ('cancelled', 'cancelling'));
CREATE POLICY perms_runs ON task FOR UPDATE TO datamgr_perms
    USING (kind = 'perms') WITH CHECK (kind = 'perms');
