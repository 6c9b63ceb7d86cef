"""What is at B and at H by directory, as a ledger that the tables of tiering keep themselves."""

from alembic import op

revision = "0012"
down_revision = "0011"

# The directory of a path with its slash, or nothing; what an escape cannot be mistaken for.
FOLDER = "decode(regexp_replace(encode({0}.path, 'escape'), '[^/]*$', ''), 'escape')"
COUNTED = "{0}.deleted_at IS NULL AND {0}.state IN ('B', 'H')"
OF = f"""
    SELECT {{0}}.root, {FOLDER} AS folder, {{0}}.state, {{1}} AS files, {{1}} * v.size_bytes AS bytes
    FROM {{2}} {{0}} JOIN tier_version v ON v.id = {{0}}.version_id
    WHERE {COUNTED}
"""
SUMS = """
INSERT INTO tier_amount (root, folder, state, files, bytes)
SELECT root, folder, state, sum(files), sum(bytes) FROM ({0}) AS changed
GROUP BY root, folder, state HAVING sum(files) <> 0 OR sum(bytes) <> 0
"""
CHANGED = SUMS.format(OF.format("o", -1, "old_rows") + "UNION ALL" + OF.format("n", 1, "new_rows"))
# Only added to, so that nobody waits for anybody. A file gets its version after it was inserted.
TRIGGERS = f"""
CREATE FUNCTION tier_file_changed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    {CHANGED};
    RETURN NULL;
END $$;
CREATE TRIGGER tier_file_changed AFTER UPDATE ON tier_file
REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows
FOR EACH STATEMENT EXECUTE FUNCTION tier_file_changed();

CREATE FUNCTION tier_file_removed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    {SUMS.format(OF.format("o", -1, "(SELECT old.*)"))};
    RETURN old;
END $$;
CREATE TRIGGER tier_file_removed BEFORE DELETE ON tier_file
FOR EACH ROW WHEN ({COUNTED.format("old")}) EXECUTE FUNCTION tier_file_removed();

CREATE FUNCTION tier_file_emptied() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM tier_amount;
    RETURN NULL;
END $$;
CREATE TRIGGER tier_file_emptied AFTER TRUNCATE ON tier_file
FOR EACH STATEMENT EXECUTE FUNCTION tier_file_emptied();
"""


def upgrade() -> None:
    op.execute(
        "CREATE TABLE tier_amount (root varchar NOT NULL, folder bytea NOT NULL, "
        "state varchar NOT NULL, files bigint NOT NULL, bytes numeric NOT NULL)"
    )
    op.execute(SUMS.format(OF.format("f", 1, "tier_file")))
    op.execute(
        "CREATE INDEX ix_tier_amount_root_folder ON tier_amount (root, folder) "
        "INCLUDE (state, files, bytes)"
    )
    op.execute(TRIGGERS)


def downgrade() -> None:
    op.execute("DROP TRIGGER tier_file_changed ON tier_file")
    op.execute("DROP TRIGGER tier_file_removed ON tier_file")
    op.execute("DROP TRIGGER tier_file_emptied ON tier_file")
    op.execute("DROP FUNCTION tier_file_changed, tier_file_removed, tier_file_emptied")
    op.drop_table("tier_amount")
