//! Relations of `pg_catalog` about features that Tidemark does not have. Clients query them nevertheless.

use crate::system_catalog::relation::{SystemRelation, empty};

pub(super) const RELATIONS: &[SystemRelation] = &[
    empty!(Table 2600 "pg_aggregate" {
        aggfnoid: Regproc, aggkind: Char, aggnumdirectargs: Int2, aggtransfn: Regproc,
        aggfinalfn: Regproc, aggcombinefn: Regproc, aggserialfn: Regproc, aggdeserialfn: Regproc,
        aggmtransfn: Regproc, aggminvtransfn: Regproc, aggmfinalfn: Regproc, aggfinalextra: Bool,
        aggmfinalextra: Bool, aggfinalmodify: Char, aggmfinalmodify: Char, aggsortop: Oid,
        aggtranstype: Oid, aggtransspace: Int4, aggmtranstype: Oid, aggmtransspace: Int4,
        agginitval: Text, aggminitval: Text,
    }),
    empty!(Table 1261 "pg_auth_members" {
        roleid: Oid, member: Oid, grantor: Oid, admin_option: Bool,
    }),
    empty!(View 12024 "pg_available_extensions" {
        name: Name, default_version: Text, installed_version: Text, comment: Text,
    }),
    empty!(Table 2605 "pg_cast" {
        oid: Oid, castsource: Oid, casttarget: Oid, castfunc: Oid, castcontext: Char,
        castmethod: Char,
    }),
    empty!(Table 2607 "pg_conversion" {
        oid: Oid, conname: Name, connamespace: Oid, conowner: Oid, conforencoding: Int4,
        contoencoding: Int4, conproc: Regproc, condefault: Bool,
    }),
    empty!(View 12074 "pg_group" {
        groname: Name, grosysid: Oid, grolist: OidArray,
    }),
    empty!(View 12075 "pg_policies" {
        schemaname: Name, tablename: Name, policyname: Name, permissive: Text, roles: NameArray,
        cmd: Text, qual: Text, with_check: Text,
    }),
    empty!(View 12076 "pg_replication_slots" {
        slot_name: Name, plugin: Name, slot_type: Text, datoid: Oid, database: Name,
        temporary: Bool, active: Bool, active_pid: Int4, xmin: Xid, catalog_xmin: Xid,
        restart_lsn: Text, confirmed_flush_lsn: Text, wal_status: Text, safe_wal_size: Int8,
        two_phase: Bool,
    }),
    empty!(View 12027 "pg_cursors" {
        name: Text, statement: Text, is_holdable: Bool, is_binary: Bool, is_scrollable: Bool,
        creation_time: Timestamptz,
    }),
    empty!(Table 2964 "pg_db_role_setting" {
        setdatabase: Oid, setrole: Oid, setconfig: TextArray,
    }),
    empty!(Table 826 "pg_default_acl" {
        oid: Oid, defaclrole: Oid, defaclnamespace: Oid, defaclobjtype: Char, defaclacl: AclArray,
    }),
    empty!(Table 2608 "pg_depend" {
        classid: Oid, objid: Oid, objsubid: Int4, refclassid: Oid, refobjid: Oid,
        refobjsubid: Int4, deptype: Char,
    }),
    empty!(Table 2609 "pg_description" {
        objoid: Oid, classoid: Oid, objsubid: Int4, description: Text,
    }),
    empty!(Table 3501 "pg_enum" {
        oid: Oid, enumtypid: Oid, enumsortorder: Float4, enumlabel: Name,
    }),
    empty!(Table 3466 "pg_event_trigger" {
        oid: Oid, evtname: Name, evtevent: Name, evtowner: Oid, evtfoid: Oid, evtenabled: Char,
        evttags: TextArray,
    }),
    empty!(Table 3079 "pg_extension" {
        oid: Oid, extname: Name, extowner: Oid, extnamespace: Oid, extrelocatable: Bool,
        extversion: Text, extconfig: OidArray, extcondition: TextArray,
    }),
    empty!(Table 2328 "pg_foreign_data_wrapper" {
        oid: Oid, fdwname: Name, fdwowner: Oid, fdwhandler: Oid, fdwvalidator: Oid,
        fdwacl: AclArray, fdwoptions: TextArray,
    }),
    empty!(Table 1417 "pg_foreign_server" {
        oid: Oid, srvname: Name, srvowner: Oid, srvfdw: Oid, srvtype: Text, srvversion: Text,
        srvacl: AclArray, srvoptions: TextArray,
    }),
    empty!(Table 3118 "pg_foreign_table" {
        ftrelid: Oid, ftserver: Oid, ftoptions: TextArray,
    }),
    empty!(Table 2611 "pg_inherits" {
        inhrelid: Oid, inhparent: Oid, inhseqno: Int4, inhdetachpending: Bool,
    }),
    empty!(Table 2995 "pg_largeobject_metadata" {
        oid: Oid, lomowner: Oid, lomacl: AclArray,
    }),
    empty!(View 12040 "pg_locks" {
        locktype: Text, database: Oid, relation: Oid, page: Int4, tuple: Int2, virtualxid: Text,
        transactionid: Xid, classid: Oid, objid: Oid, objsubid: Int2, virtualtransaction: Text,
        pid: Int4, mode: Text, granted: Bool, fastpath: Bool, waitstart: Timestamptz,
    }),
    empty!(View 12041 "pg_matviews" {
        schemaname: Name, matviewname: Name, matviewowner: Name, tablespace: Name,
        hasindexes: Bool, ispopulated: Bool, definition: Text,
    }),
    empty!(Table 2616 "pg_opclass" {
        oid: Oid, opcmethod: Oid, opcname: Name, opcnamespace: Oid, opcowner: Oid, opcfamily: Oid,
        opcintype: Oid, opcdefault: Bool, opckeytype: Oid,
    }),
    empty!(Table 2617 "pg_operator" {
        oid: Oid, oprname: Name, oprnamespace: Oid, oprowner: Oid, oprkind: Char,
        oprcanmerge: Bool, oprcanhash: Bool, oprleft: Oid, oprright: Oid, oprresult: Oid,
        oprcom: Oid, oprnegate: Oid, oprcode: Regproc, oprrest: Regproc, oprjoin: Regproc,
    }),
    empty!(Table 2753 "pg_opfamily" {
        oid: Oid, opfmethod: Oid, opfname: Name, opfnamespace: Oid, opfowner: Oid,
    }),
    empty!(Table 3350 "pg_partitioned_table" {
        partrelid: Oid, partstrat: Char, partnatts: Int2, partdefid: Oid, partattrs: Int2Vector,
        partclass: OidVector, partcollation: OidVector, partexprs: NodeTree,
    }),
    empty!(Table 3256 "pg_policy" {
        oid: Oid, polname: Name, polrelid: Oid, polcmd: Char, polpermissive: Bool,
        polroles: OidArray, polqual: NodeTree, polwithcheck: NodeTree,
    }),
    empty!(View 12047 "pg_prepared_xacts" {
        transaction: Xid, gid: Text, prepared: Timestamptz, owner: Name, database: Name,
    }),
    empty!(Table 6104 "pg_publication" {
        oid: Oid, pubname: Name, pubowner: Oid, puballtables: Bool, pubinsert: Bool,
        pubupdate: Bool, pubdelete: Bool, pubtruncate: Bool, pubviaroot: Bool,
    }),
    empty!(Table 6237 "pg_publication_namespace" {
        oid: Oid, pnpubid: Oid, pnnspid: Oid,
    }),
    empty!(Table 6106 "pg_publication_rel" {
        oid: Oid, prpubid: Oid, prrelid: Oid, prqual: NodeTree, prattrs: Int2Vector,
    }),
    empty!(View 12051 "pg_publication_tables" {
        pubname: Name, schemaname: Name, tablename: Name, attnames: NameArray, rowfilter: Text,
    }),
    empty!(Table 3541 "pg_range" {
        rngtypid: Oid, rngsubtype: Oid, rngmultitypid: Oid, rngcollation: Oid, rngsubopc: Oid,
        rngcanonical: Regproc, rngsubdiff: Regproc,
    }),
    empty!(Table 2618 "pg_rewrite" {
        oid: Oid, rulename: Name, ev_class: Oid, ev_type: Char, ev_enabled: Char,
        is_instead: Bool, ev_qual: NodeTree, ev_action: NodeTree,
    }),
    empty!(View 12054 "pg_rules" {
        schemaname: Name, tablename: Name, rulename: Name, definition: Text,
    }),
    empty!(Table 2224 "pg_sequence" {
        seqrelid: Oid, seqtypid: Oid, seqstart: Int8, seqincrement: Int8, seqmax: Int8,
        seqmin: Int8, seqcache: Int8, seqcycle: Bool,
    }),
    empty!(View 12056 "pg_sequences" {
        schemaname: Name, sequencename: Name, sequenceowner: Name, data_type: Oid,
        start_value: Int8, min_value: Int8, max_value: Int8, increment_by: Int8, cycle: Bool,
        cache_size: Int8, last_value: Int8,
    }),
    empty!(Table 1214 "pg_shdepend" {
        dbid: Oid, classid: Oid, objid: Oid, objsubid: Int4, refclassid: Oid, refobjid: Oid,
        deptype: Char,
    }),
    empty!(Table 2396 "pg_shdescription" {
        objoid: Oid, classoid: Oid, description: Text,
    }),
    empty!(View 12059 "pg_stat_all_tables" {
        relid: Oid, schemaname: Name, relname: Name, seq_scan: Int8, seq_tup_read: Int8,
        idx_scan: Int8, idx_tup_fetch: Int8, n_tup_ins: Int8, n_tup_upd: Int8, n_tup_del: Int8,
        n_tup_hot_upd: Int8, n_live_tup: Int8, n_dead_tup: Int8, n_mod_since_analyze: Int8,
        n_ins_since_vacuum: Int8, last_vacuum: Timestamptz, last_autovacuum: Timestamptz,
        last_analyze: Timestamptz, last_autoanalyze: Timestamptz, vacuum_count: Int8,
        autovacuum_count: Int8, analyze_count: Int8, autoanalyze_count: Int8,
    }),
    empty!(View 12060 "pg_stat_database" {
        datid: Oid, datname: Name, numbackends: Int4, xact_commit: Int8, xact_rollback: Int8,
        blks_read: Int8, blks_hit: Int8, tup_returned: Int8, tup_fetched: Int8,
        tup_inserted: Int8, tup_updated: Int8, tup_deleted: Int8, conflicts: Int8,
        temp_files: Int8, temp_bytes: Int8, deadlocks: Int8, checksum_failures: Int8,
        checksum_last_failure: Timestamptz, blk_read_time: Float8, blk_write_time: Float8,
        session_time: Float8, active_time: Float8, idle_in_transaction_time: Float8,
        sessions: Int8, sessions_abandoned: Int8, sessions_fatal: Int8, sessions_killed: Int8,
        stats_reset: Timestamptz,
    }),
    empty!(View 12061 "pg_statio_user_tables" {
        relid: Oid, schemaname: Name, relname: Name, heap_blks_read: Int8, heap_blks_hit: Int8,
        idx_blks_read: Int8, idx_blks_hit: Int8, toast_blks_read: Int8, toast_blks_hit: Int8,
        tidx_blks_read: Int8, tidx_blks_hit: Int8,
    }),
    empty!(Table 3381 "pg_statistic_ext" {
        oid: Oid, stxrelid: Oid, stxname: Name, stxnamespace: Oid, stxowner: Oid,
        stxstattarget: Int4, stxkeys: Int2Vector, stxkind: CharArray, stxexprs: NodeTree,
    }),
    empty!(View 12063 "pg_stats" {
        schemaname: Name, tablename: Name, attname: Name, inherited: Bool, null_frac: Float4,
        avg_width: Int4, n_distinct: Float4, most_common_vals: TextArray,
        most_common_freqs: Float4Array, histogram_bounds: TextArray, correlation: Float4,
        most_common_elems: TextArray, most_common_elem_freqs: Float4Array,
        elem_count_histogram: Float4Array,
    }),
    empty!(View 12064 "pg_stat_user_indexes" {
        relid: Oid, indexrelid: Oid, schemaname: Name, relname: Name, indexrelname: Name,
        idx_scan: Int8, idx_tup_read: Int8, idx_tup_fetch: Int8,
    }),
    empty!(Table 6100 "pg_subscription" {
        oid: Oid, subdbid: Oid, subskiplsn: Text, subname: Name, subowner: Oid, subenabled: Bool,
        subbinary: Bool, substream: Bool, subtwophasestate: Char, subdisableonerr: Bool,
        subconninfo: Text, subslotname: Name, subsynccommit: Text, subpublications: TextArray,
    }),
    empty!(View 12066 "pg_timezone_names" {
        name: Text, abbrev: Text, utc_offset: Interval, is_dst: Bool,
    }),
    empty!(Table 2620 "pg_trigger" {
        oid: Oid, tgrelid: Oid, tgparentid: Oid, tgname: Name, tgfoid: Oid, tgtype: Int2,
        tgenabled: Char, tgisinternal: Bool, tgconstrrelid: Oid, tgconstrindid: Oid,
        tgconstraint: Oid, tgdeferrable: Bool, tginitdeferred: Bool, tgnargs: Int2,
        tgattr: Int2Vector, tgargs: Bytea, tgqual: NodeTree, tgoldtable: Name, tgnewtable: Name,
    }),
    empty!(Table 3602 "pg_ts_config" {
        oid: Oid, cfgname: Name, cfgnamespace: Oid, cfgowner: Oid, cfgparser: Oid,
    }),
    empty!(Table 3600 "pg_ts_dict" {
        oid: Oid, dictname: Name, dictnamespace: Oid, dictowner: Oid, dicttemplate: Oid,
        dictinitoption: Text,
    }),
    empty!(Table 3601 "pg_ts_parser" {
        oid: Oid, prsname: Name, prsnamespace: Oid, prsstart: Regproc, prstoken: Regproc,
        prsend: Regproc, prsheadline: Regproc, prslextype: Regproc,
    }),
    empty!(Table 3764 "pg_ts_template" {
        oid: Oid, tmplname: Name, tmplnamespace: Oid, tmplinit: Regproc, tmpllexize: Regproc,
    }),
    empty!(View 12072 "pg_user_mappings" {
        umid: Oid, srvid: Oid, srvname: Name, umuser: Oid, usename: Name, umoptions: TextArray,
    }),
    empty!(View 12073 "pg_prepared_statements" {
        name: Text, statement: Text, prepare_time: Timestamptz, parameter_types: OidArray,
        from_sql: Bool, generic_plans: Int8, custom_plans: Int8,
    }),
];
