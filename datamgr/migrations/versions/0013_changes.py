"""A ledger of what changed of projects, members and scans, for who remembers what is made of them."""

from alembic import op

revision = "0013"
down_revision = "0012"

WATCHED = ("project", "project_member", "scan")
# Its rows are added by whoever may change the tables. What others are removing is left to them:
# nobody waits here for a publication, which takes minutes.
FUNCTION = """
CREATE FUNCTION record_change() RETURNS trigger LANGUAGE plpgsql
SECURITY DEFINER SET search_path = public, pg_temp AS $$
BEGIN
    INSERT INTO change DEFAULT VALUES;
    DELETE FROM change WHERE id IN (
        SELECT id FROM change WHERE id < (SELECT max(id) FROM change) - 100
        FOR UPDATE SKIP LOCKED
    );
    RETURN NULL;
END $$;
"""
TRIGGER = """
CREATE TRIGGER record_change AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON {0}
FOR EACH STATEMENT EXECUTE FUNCTION record_change()
"""


def upgrade() -> None:
    op.execute(
        "CREATE TABLE change (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, "
        "at timestamp with time zone NOT NULL DEFAULT now())"
    )
    op.execute(FUNCTION)
    for table in WATCHED:
        op.execute(TRIGGER.format(table))


def downgrade() -> None:
    for table in WATCHED:
        op.execute(f"DROP TRIGGER record_change ON {table}")
    op.execute("DROP FUNCTION record_change")
    op.execute("DROP TABLE change")
