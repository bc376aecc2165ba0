"""The joins of a night, in SQL (DuckDB), each on what those before it made.

They begin with ``files`` and ``pending``, what earlier nights saw; ``features``, what the store's shards hold;
``found``, tonight's files; and, for ``UNSEEN``, ``not_looked_at``, the places that may not be looked at.
"""

from __future__ import annotations

_SEEN_LAST = "QUALIFY row_number() OVER (PARTITION BY path ORDER BY seen DESC, photo_id) = 1"
KNOWN = f"CREATE TABLE known AS FROM (FROM files UNION ALL FROM pending) {_SEEN_LAST}"
KEPT = """
    CREATE TABLE kept AS
    SELECT photo_id, shard, "row", list_contains($unsettled, reason) AS unsettled, reason AS kept_reason FROM features
    WHERE has_thumbnail OR status = 'rejected' OR NOT $thumbnails
    QUALIFY row_number() OVER (PARTITION BY photo_id ORDER BY unsettled, shard DESC, "row") = 1"""
PLAN = """
    CREATE TABLE plan AS
    SELECT found.number, found.path, found.bytes, found.stamp, known.seen, known.photo_id,
        known.reason, known.message, kept.shard, kept."row",
        found.bytes <= $max_bytes AND (kept.unsettled IS NULL OR kept.unsettled) AS unsettled,
        coalesce(list_contains($lost, coalesce(kept.kept_reason, known.reason)), false) AS was_lost
    FROM found
    LEFT JOIN known ON known.path = found.path AND known.bytes = found.bytes AND known.stamp = found.stamp
        AND found.bytes <= $max_bytes
    LEFT JOIN kept ON kept.photo_id = known.photo_id"""
# By a hash join, since both sides may be many.
UNSEEN = """
    CREATE TABLE unseen AS
    SELECT DISTINCT path FROM (
        SELECT path, array_to_string(parts[1:depth], '/') AS place
        FROM (
            SELECT path, string_split(path, '/') AS parts
            FROM (SELECT path FROM files UNION ALL SELECT path FROM pending)
            WHERE EXISTS (FROM not_looked_at)
        ), unnest(range(1, len(parts) + 1)) AS depths(depth))
    SEMI JOIN not_looked_at USING (place)"""
# A row that names no contents is of a try that failed, which says nothing of the file.
SPARED = f"""
    CREATE TABLE spared AS
    FROM (FROM files UNION ALL FROM pending)
    WHERE path IN (SELECT path FROM unseen) AND photo_id IS NOT NULL
    {_SEEN_LAST}"""  # noqa: S608  # of a constant
# What has another path by now, with equal bytes and stamp, is not gone; so many as there are of both.
MOVED = """
    SELECT coalesce(sum(least(lost.files, come.files)), 0)::BIGINT
    FROM (
        SELECT bytes, stamp, count(*) AS files FROM files
        WHERE path NOT IN (SELECT path FROM found) AND path NOT IN (SELECT path FROM unseen) GROUP BY ALL) AS lost
    JOIN (
        SELECT bytes, stamp, count(*) AS files FROM found WHERE path NOT IN (SELECT path FROM files) GROUP BY ALL
    ) AS come USING (bytes, stamp)"""
LIVE = """
    CREATE VIEW live AS
    SELECT number, photo_id, shard, "row" FROM plan WHERE shard IS NOT NULL
    UNION ALL SELECT NULL, kept.photo_id, kept.shard, kept."row" FROM spared JOIN kept USING (photo_id)"""
CHANGES = """
    SELECT count(*) FILTER (is_new), count(*) FILTER (NOT is_new AND differs),
        count(*) FILTER (NOT is_new AND NOT differs)
    FROM (
        SELECT files.path IS NULL AS is_new, plan.path NOT IN (SELECT path FROM spared)
            AND (files.photo_id IS DISTINCT FROM plan.photo_id
                OR (plan.photo_id IS NULL AND files.bytes <> plan.bytes)) AS differs
        FROM plan LEFT JOIN files ON files.path = plan.path)"""
AS_BEFORE = """
    SELECT (SELECT count(*) FROM files) = (SELECT count(*) FROM plan) AND NOT EXISTS (FROM spared)
        AND NOT EXISTS (
        SELECT 1 FROM plan LEFT JOIN files ON files.path = plan.path
        WHERE files.path IS NULL OR files.bytes <> plan.bytes OR files.stamp <> plan.stamp
            OR files.photo_id IS DISTINCT FROM plan.photo_id)"""
