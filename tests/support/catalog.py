"""What a database's catalog says of the hospital's schemas, in words that do not depend on oids.

The sequence of ``care.position``'s key is left out: nobody leaves that column out, and a shadow goes without it.
"""

from __future__ import annotations

from sqlalchemy.ext.asyncio import AsyncEngine
from support.read_model import query

_OURS = "('hospital', 'care', 'analytics', 'published')"

QUERIES = {
    "schemas": f"""
        select nspname, pg_get_userbyid(nspowner), obj_description(oid, 'pg_namespace'),
            (select array_agg(a::text order by a::text) from unnest(nspacl) a)
        from pg_namespace where nspname in {_OURS} or nspname like 'care%'
    """,
    "default privileges": f"""
        select nspname, pg_get_userbyid(defaclrole), defaclobjtype::text,
            (select array_agg(a::text order by a::text) from unnest(defaclacl) a)
        from pg_default_acl join pg_namespace n on n.oid = defaclnamespace where nspname in {_OURS}
    """,
    "relations": f"""
        select nspname, relname, relkind::text, relpersistence::text, relrowsecurity, pg_get_userbyid(relowner),
            reloptions, obj_description(c.oid, 'pg_class'),
            (select array_agg(a::text order by a::text) from unnest(relacl) a)
        from pg_class c join pg_namespace n on n.oid = relnamespace
        where nspname in {_OURS} and relkind in ('r', 'v', 'm', 'S', 'i') and relname <> 'position_partition_seq'
    """,
    "columns": f"""
        select nspname, relname, attnum, attname, format_type(atttypid, atttypmod), attnotnull, attidentity::text,
            attgenerated::text, attstattarget,
            nullif(pg_get_expr(adbin, adrelid), 'nextval(''care.position_partition_seq''::regclass)'), collname,
            col_description(c.oid, attnum), (select array_agg(a::text order by a::text) from unnest(attacl) a)
        from pg_attribute join pg_class c on c.oid = attrelid join pg_namespace n on n.oid = relnamespace
        left join pg_attrdef on adrelid = attrelid and adnum = attnum
        left join pg_collation on pg_collation.oid = attcollation
        where nspname in {_OURS} and relkind in ('r', 'v', 'm') and attnum > 0 and not attisdropped
    """,
    "constraints": f"""
        select nspname, relname, conname, contype::text, convalidated, pg_get_constraintdef(k.oid)
        from pg_constraint k join pg_class c on c.oid = conrelid join pg_namespace n on n.oid = relnamespace
        where nspname in {_OURS}
    """,
    "indexes": f"""
        select nspname, c.relname, indisprimary, indisunique, indisvalid, indisclustered, pg_get_indexdef(indexrelid)
        from pg_index join pg_class c on c.oid = indrelid join pg_namespace n on n.oid = relnamespace
        where nspname in {_OURS}
    """,
    "views": f"""
        select nspname, relname, pg_get_viewdef(c.oid) from pg_class c join pg_namespace n on n.oid = relnamespace
        where nspname in {_OURS} and relkind in ('v', 'm')
    """,
    "functions": f"""
        select nspname, proname, prosecdef, proconfig, pg_get_userbyid(proowner), md5(prosrc),
            (select array_agg(a::text order by a::text) from unnest(proacl) a)
        from pg_proc join pg_namespace n on n.oid = pronamespace where nspname in {_OURS}
    """,
    "triggers and policies": f"""
        select relname, tgname::text from pg_trigger join pg_class c on c.oid = tgrelid
            join pg_namespace n on n.oid = relnamespace where nspname in {_OURS} and not tgisinternal
        union all select relname, polname::text from pg_policy join pg_class c on c.oid = polrelid
            join pg_namespace n on n.oid = relnamespace where nspname in {_OURS}
    """,
}


async def catalog(database: AsyncEngine) -> dict[str, list[str]]:
    """By kind, each thing in a line."""
    return {
        kind: sorted(map(str, await query(database, statement.replace("::", r"\:\:"))))
        for kind, statement in QUERIES.items()
    }
