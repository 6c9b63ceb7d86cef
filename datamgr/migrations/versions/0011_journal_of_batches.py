"""The journal of tiering has a row for each batch of files, not for each file."""

from alembic import op

revision = "0011"
down_revision = "0010"

_UPGRADE = """
ALTER TABLE tier_operation
    ADD COLUMN root text,
    ADD COLUMN files bigint[],
    ADD COLUMN marks bytea[];
DELETE FROM tier_operation WHERE finished_at IS NOT NULL;
UPDATE tier_operation SET
    root = tier_file.root,
    files = ARRAY[file_id],
    marks = ARRAY[decode(detail ->> 'mark', 'hex')]
FROM tier_file WHERE tier_file.id = file_id;
ALTER TABLE tier_operation
    ALTER COLUMN root SET NOT NULL,
    ALTER COLUMN files SET NOT NULL,
    ALTER COLUMN marks SET NOT NULL,
    DROP COLUMN file_id,
    DROP COLUMN detail;
CREATE INDEX ix_tier_operation_unfinished ON tier_operation (root) WHERE finished_at IS NULL;
"""


def upgrade() -> None:
    """What a crash left unfinished stays; steps that were completed are forgotten."""
    op.execute(_UPGRADE)
