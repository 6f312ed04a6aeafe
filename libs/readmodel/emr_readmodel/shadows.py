"""Shadows of schema ``care``: same tables, empty, to be filled while the old ones serve.

The service's role changes no schema. It calls these functions of the owner's: make a shadow, swap it in, drop it.
``care_rebuild`` is what a rebuild fills and swaps in, ``care_verify`` what a verification compares with, ``care_walk``
the same of the walk that goes on all the time.
"""

from __future__ import annotations

from collections.abc import Iterator

REBUILD, VERIFY, WALK = "care_rebuild", "care_verify", "care_walk"

MAKE = """
create or replace function hospital.make_shadow(shadow text) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    one record;
    part record;
begin
    if shadow not in ('care_rebuild', 'care_verify', 'care_walk') then
        raise exception 'no shadow has this name';
    end if;
    execute format('drop schema if exists %I cascade', shadow);
    execute format('create schema %I', shadow);
    execute format('comment on schema %I is %L', shadow, obj_description('care'::regnamespace, 'pg_namespace'));
    for part in select grantee, privilege_type from pg_namespace, aclexplode(nspacl)
        where nspname = 'care' and grantee <> nspowner and grantee <> 0
    loop
        execute format('grant %s on schema %I to %I', part.privilege_type, shadow, pg_get_userbyid(part.grantee));
    end loop;
    for part in select defaclrole, defaclobjtype, grantee, privilege_type from pg_default_acl, aclexplode(defaclacl)
        where defaclnamespace = 'care'::regnamespace and defaclobjtype in ('r', 'S') and grantee <> defaclrole
    loop
        execute format('alter default privileges for role %I in schema %I grant %s on %s to %I',
            pg_get_userbyid(part.defaclrole), shadow, part.privilege_type,
            case part.defaclobjtype when 'r' then 'tables' else 'sequences' end, pg_get_userbyid(part.grantee));
    end loop;
    for one in select oid, relname, relowner, relacl, obj_description(oid, 'pg_class') as comment
        from pg_class where relnamespace = 'care'::regnamespace and relkind = 'r' order by relname
    loop
        execute format('create table %I.%I (like care.%I including all excluding indexes)',
            shadow, one.relname, one.relname);
        execute format('comment on table %I.%I is %L', shadow, one.relname, one.comment);
        for part in select attname from pg_attrdef join pg_attribute on attrelid = adrelid and attnum = adnum
            where adrelid = one.oid and pg_get_expr(adbin, adrelid) like 'nextval(%'
        loop  -- nobody leaves such a column out, and the sequence goes with the table before
            execute format('alter table %I.%I alter column %I drop default', shadow, one.relname, part.attname);
        end loop;
        for part in select conname, pg_get_constraintdef(oid) as definition from pg_constraint
            where conrelid = one.oid and contype in ('p', 'u', 'x') order by conname
        loop
            execute format('alter table %I.%I add constraint %I %s',
                shadow, one.relname, part.conname, part.definition);
        end loop;
        for part in select pg_get_indexdef(indexrelid) as definition from pg_index
            where indrelid = one.oid and not exists (select from pg_constraint where conindid = indexrelid)
        loop
            execute replace(part.definition, ' ON care.', format(' ON %I.', shadow));
        end loop;
        for part in select grantee, privilege_type from aclexplode(one.relacl)
            where grantee <> one.relowner and grantee <> 0
        loop
            execute format('grant %s on %I.%I to %I',
                part.privilege_type, shadow, one.relname, pg_get_userbyid(part.grantee));
        end loop;
    end loop;
end
$$
"""

SWAP = """
create or replace function hospital.swap_shadow() returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    one record;
    part record;
    drops text[] := '{}';
    makes text[] := '{}';
begin
    if exists (
        (select relname, attname, atttypid, attnotnull from pg_attribute join pg_class on pg_class.oid = attrelid
            where relnamespace = 'care'::regnamespace and relkind = 'r' and attnum > 0 and not attisdropped
        except select relname, attname, atttypid, attnotnull from pg_attribute join pg_class on pg_class.oid = attrelid
            where relnamespace = 'care_rebuild'::regnamespace and attnum > 0 and not attisdropped)
        union all
        (select relname, attname, atttypid, attnotnull from pg_attribute join pg_class on pg_class.oid = attrelid
            where relnamespace = 'care_rebuild'::regnamespace and relkind = 'r' and attnum > 0 and not attisdropped
        except select relname, attname, atttypid, attnotnull from pg_attribute join pg_class on pg_class.oid = attrelid
            where relnamespace = 'care'::regnamespace and attnum > 0 and not attisdropped)
    ) then
        raise exception using errcode = 'CR001', message = 'the schema has changed since the shadow was made';
    end if;
    for one in select relname from pg_class where relnamespace = 'care_rebuild'::regnamespace and relkind = 'r' loop
        execute format('analyze care_rebuild.%I', one.relname);
    end loop;
    for one in select relname from pg_class where relnamespace = 'care'::regnamespace and relkind = 'r' order by 1 loop
        execute format('lock table care.%I in access exclusive mode', one.relname);
    end loop;
    for one in
        with recursive dependent(oid) as (
            select r.ev_class from pg_depend d join pg_rewrite r on r.oid = d.objid
                join pg_class c on c.oid = d.refobjid
            where d.classid = 'pg_rewrite'::regclass and d.refclassid = 'pg_class'::regclass
                and c.relnamespace = 'care'::regnamespace and r.ev_class <> c.oid
            union
            select r.ev_class from dependent p join pg_depend d on d.refobjid = p.oid
                join pg_rewrite r on r.oid = d.objid
            where d.classid = 'pg_rewrite'::regclass and d.refclassid = 'pg_class'::regclass and r.ev_class <> p.oid
        )
        select c.oid, c.relowner, c.relacl, format('%I.%I', n.nspname, c.relname) as name,
            array_to_string(c.reloptions, ', ') as options, pg_get_viewdef(c.oid) as definition
        from dependent join pg_class c using (oid) join pg_namespace n on n.oid = c.relnamespace order by c.oid
    loop
        drops := array_prepend(format('drop view %s', one.name), drops);
        makes := makes || format('create view %s %s as %s', one.name,
            case when one.options <> '' then format('with (%s)', one.options) else '' end, one.definition);
        for part in select objsubid, description, attname from pg_description
            left join pg_attribute on attrelid = one.oid and attnum = objsubid and objsubid > 0
            where classoid = 'pg_class'::regclass and objoid = one.oid
        loop
            makes := makes || case when part.objsubid = 0
                then format('comment on view %s is %L', one.name, part.description)
                else format('comment on column %s.%I is %L', one.name, part.attname, part.description) end;
        end loop;
        for part in select grantee, privilege_type from aclexplode(one.relacl)
            where grantee <> one.relowner and grantee <> 0
        loop
            makes := makes || format('grant %s on %s to %I',
                part.privilege_type, one.name, pg_get_userbyid(part.grantee));
        end loop;
    end loop;
    for i in 1 .. cardinality(drops) loop
        execute drops[i];
    end loop;
    alter schema care rename to care_before;
    alter schema care_rebuild rename to care;
    for i in 1 .. cardinality(makes) loop
        execute makes[i];
    end loop;
    for one in select relname from pg_class where relnamespace = 'care_before'::regnamespace and relkind = 'r' loop
        execute format('drop table care_before.%I', one.relname);
    end loop;
    drop schema care_before;
end
$$
"""

DROP = """
create or replace function hospital.drop_shadow(shadow text) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
    if shadow not in ('care_rebuild', 'care_verify', 'care_walk') then
        raise exception 'no shadow has this name';
    end if;
    execute format('drop schema if exists %I cascade', shadow);
end
$$
"""

FUNCTIONS = (MAKE, SWAP, DROP)
SIGNATURES = ("hospital.make_shadow(text)", "hospital.swap_shadow()", "hospital.drop_shadow(text)")


def create_statements() -> Iterator[str]:
    """Run at each upgrade, as the functions' owner-to-be."""
    yield from FUNCTIONS
    for signature in SIGNATURES:
        yield f"revoke all on function {signature} from public"
