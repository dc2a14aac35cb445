//! Relations of `pg_catalog` about features that Tidemark does not have. Clients query them nevertheless.

use crate::system_catalog::relation::{SystemRelation, empty};

pub(super) const RELATIONS: &[SystemRelation] = &[
    empty!(Table "pg_aggregate" {
        aggfnoid: Regproc, aggkind: Char, aggnumdirectargs: Int2, aggtransfn: Regproc,
        aggfinalfn: Regproc, aggcombinefn: Regproc, aggserialfn: Regproc, aggdeserialfn: Regproc,
        aggmtransfn: Regproc, aggminvtransfn: Regproc, aggmfinalfn: Regproc, aggfinalextra: Bool,
        aggmfinalextra: Bool, aggfinalmodify: Char, aggmfinalmodify: Char, aggsortop: Oid,
        aggtranstype: Oid, aggtransspace: Int4, aggmtranstype: Oid, aggmtransspace: Int4,
        agginitval: Text, aggminitval: Text,
    }),
    empty!(Table "pg_auth_members" {
        roleid: Oid, member: Oid, grantor: Oid, admin_option: Bool,
    }),
    empty!(View "pg_available_extensions" {
        name: Name, default_version: Text, installed_version: Text, comment: Text,
    }),
    empty!(Table "pg_cast" {
        oid: Oid, castsource: Oid, casttarget: Oid, castfunc: Oid, castcontext: Char,
        castmethod: Char,
    }),
    empty!(Table "pg_conversion" {
        oid: Oid, conname: Name, connamespace: Oid, conowner: Oid, conforencoding: Int4,
        contoencoding: Int4, conproc: Regproc, condefault: Bool,
    }),
    empty!(View "pg_cursors" {
        name: Text, statement: Text, is_holdable: Bool, is_binary: Bool, is_scrollable: Bool,
        creation_time: Timestamptz,
    }),
    empty!(Table "pg_db_role_setting" {
        setdatabase: Oid, setrole: Oid, setconfig: TextArray,
    }),
    empty!(Table "pg_default_acl" {
        oid: Oid, defaclrole: Oid, defaclnamespace: Oid, defaclobjtype: Char, defaclacl: AclArray,
    }),
    empty!(Table "pg_depend" {
        classid: Oid, objid: Oid, objsubid: Int4, refclassid: Oid, refobjid: Oid,
        refobjsubid: Int4, deptype: Char,
    }),
    empty!(Table "pg_description" {
        objoid: Oid, classoid: Oid, objsubid: Int4, description: Text,
    }),
    empty!(Table "pg_enum" {
        oid: Oid, enumtypid: Oid, enumsortorder: Float4, enumlabel: Name,
    }),
    empty!(Table "pg_event_trigger" {
        oid: Oid, evtname: Name, evtevent: Name, evtowner: Oid, evtfoid: Oid, evtenabled: Char,
        evttags: TextArray,
    }),
    empty!(Table "pg_extension" {
        oid: Oid, extname: Name, extowner: Oid, extnamespace: Oid, extrelocatable: Bool,
        extversion: Text, extconfig: OidArray, extcondition: TextArray,
    }),
    empty!(Table "pg_foreign_data_wrapper" {
        oid: Oid, fdwname: Name, fdwowner: Oid, fdwhandler: Oid, fdwvalidator: Oid,
        fdwacl: AclArray, fdwoptions: TextArray,
    }),
    empty!(Table "pg_foreign_server" {
        oid: Oid, srvname: Name, srvowner: Oid, srvfdw: Oid, srvtype: Text, srvversion: Text,
        srvacl: AclArray, srvoptions: TextArray,
    }),
    empty!(Table "pg_foreign_table" {
        ftrelid: Oid, ftserver: Oid, ftoptions: TextArray,
    }),
    empty!(Table "pg_inherits" {
        inhrelid: Oid, inhparent: Oid, inhseqno: Int4, inhdetachpending: Bool,
    }),
    empty!(Table "pg_largeobject_metadata" {
        oid: Oid, lomowner: Oid, lomacl: AclArray,
    }),
    empty!(View "pg_locks" {
        locktype: Text, database: Oid, relation: Oid, page: Int4, tuple: Int2, virtualxid: Text,
        transactionid: Xid, classid: Oid, objid: Oid, objsubid: Int2, virtualtransaction: Text,
        pid: Int4, mode: Text, granted: Bool, fastpath: Bool, waitstart: Timestamptz,
    }),
    empty!(View "pg_matviews" {
        schemaname: Name, matviewname: Name, matviewowner: Name, tablespace: Name,
        hasindexes: Bool, ispopulated: Bool, definition: Text,
    }),
    empty!(Table "pg_opclass" {
        oid: Oid, opcmethod: Oid, opcname: Name, opcnamespace: Oid, opcowner: Oid, opcfamily: Oid,
        opcintype: Oid, opcdefault: Bool, opckeytype: Oid,
    }),
    empty!(Table "pg_operator" {
        oid: Oid, oprname: Name, oprnamespace: Oid, oprowner: Oid, oprkind: Char,
        oprcanmerge: Bool, oprcanhash: Bool, oprleft: Oid, oprright: Oid, oprresult: Oid,
        oprcom: Oid, oprnegate: Oid, oprcode: Regproc, oprrest: Regproc, oprjoin: Regproc,
    }),
    empty!(Table "pg_opfamily" {
        oid: Oid, opfmethod: Oid, opfname: Name, opfnamespace: Oid, opfowner: Oid,
    }),
    empty!(Table "pg_partitioned_table" {
        partrelid: Oid, partstrat: Char, partnatts: Int2, partdefid: Oid, partattrs: Int2Vector,
        partclass: OidVector, partcollation: OidVector, partexprs: NodeTree,
    }),
    empty!(Table "pg_policy" {
        oid: Oid, polname: Name, polrelid: Oid, polcmd: Char, polpermissive: Bool,
        polroles: OidArray, polqual: NodeTree, polwithcheck: NodeTree,
    }),
    empty!(View "pg_prepared_xacts" {
        transaction: Xid, gid: Text, prepared: Timestamptz, owner: Name, database: Name,
    }),
    empty!(Table "pg_publication" {
        oid: Oid, pubname: Name, pubowner: Oid, puballtables: Bool, pubinsert: Bool,
        pubupdate: Bool, pubdelete: Bool, pubtruncate: Bool, pubviaroot: Bool,
    }),
    empty!(Table "pg_publication_namespace" {
        oid: Oid, pnpubid: Oid, pnnspid: Oid,
    }),
    empty!(Table "pg_publication_rel" {
        oid: Oid, prpubid: Oid, prrelid: Oid, prqual: NodeTree, prattrs: Int2Vector,
    }),
    empty!(View "pg_publication_tables" {
        pubname: Name, schemaname: Name, tablename: Name, attnames: NameArray, rowfilter: Text,
    }),
    empty!(Table "pg_range" {
        rngtypid: Oid, rngsubtype: Oid, rngmultitypid: Oid, rngcollation: Oid, rngsubopc: Oid,
        rngcanonical: Regproc, rngsubdiff: Regproc,
    }),
    empty!(Table "pg_rewrite" {
        oid: Oid, rulename: Name, ev_class: Oid, ev_type: Char, ev_enabled: Char,
        is_instead: Bool, ev_qual: NodeTree, ev_action: NodeTree,
    }),
    empty!(View "pg_rules" {
        schemaname: Name, tablename: Name, rulename: Name, definition: Text,
    }),
    empty!(Table "pg_sequence" {
        seqrelid: Oid, seqtypid: Oid, seqstart: Int8, seqincrement: Int8, seqmax: Int8,
        seqmin: Int8, seqcache: Int8, seqcycle: Bool,
    }),
    empty!(View "pg_sequences" {
        schemaname: Name, sequencename: Name, sequenceowner: Name, data_type: Oid,
        start_value: Int8, min_value: Int8, max_value: Int8, increment_by: Int8, cycle: Bool,
        cache_size: Int8, last_value: Int8,
    }),
    empty!(Table "pg_shdepend" {
        dbid: Oid, classid: Oid, objid: Oid, objsubid: Int4, refclassid: Oid, refobjid: Oid,
        deptype: Char,
    }),
    empty!(Table "pg_shdescription" {
        objoid: Oid, classoid: Oid, description: Text,
    }),
    empty!(View "pg_stat_all_tables" {
        relid: Oid, schemaname: Name, relname: Name, seq_scan: Int8, seq_tup_read: Int8,
        idx_scan: Int8, idx_tup_fetch: Int8, n_tup_ins: Int8, n_tup_upd: Int8, n_tup_del: Int8,
        n_tup_hot_upd: Int8, n_live_tup: Int8, n_dead_tup: Int8, n_mod_since_analyze: Int8,
        n_ins_since_vacuum: Int8, last_vacuum: Timestamptz, last_autovacuum: Timestamptz,
        last_analyze: Timestamptz, last_autoanalyze: Timestamptz, vacuum_count: Int8,
        autovacuum_count: Int8, analyze_count: Int8, autoanalyze_count: Int8,
    }),
    empty!(View "pg_stat_database" {
        datid: Oid, datname: Name, numbackends: Int4, xact_commit: Int8, xact_rollback: Int8,
        blks_read: Int8, blks_hit: Int8, tup_returned: Int8, tup_fetched: Int8,
        tup_inserted: Int8, tup_updated: Int8, tup_deleted: Int8, conflicts: Int8,
        temp_files: Int8, temp_bytes: Int8, deadlocks: Int8, checksum_failures: Int8,
        checksum_last_failure: Timestamptz, blk_read_time: Float8, blk_write_time: Float8,
        session_time: Float8, active_time: Float8, idle_in_transaction_time: Float8,
        sessions: Int8, sessions_abandoned: Int8, sessions_fatal: Int8, sessions_killed: Int8,
        stats_reset: Timestamptz,
    }),
    empty!(View "pg_statio_user_tables" {
        relid: Oid, schemaname: Name, relname: Name, heap_blks_read: Int8, heap_blks_hit: Int8,
        idx_blks_read: Int8, idx_blks_hit: Int8, toast_blks_read: Int8, toast_blks_hit: Int8,
        tidx_blks_read: Int8, tidx_blks_hit: Int8,
    }),
    empty!(Table "pg_statistic_ext" {
        oid: Oid, stxrelid: Oid, stxname: Name, stxnamespace: Oid, stxowner: Oid,
        stxstattarget: Int4, stxkeys: Int2Vector, stxkind: CharArray, stxexprs: NodeTree,
    }),
    empty!(View "pg_stats" {
        schemaname: Name, tablename: Name, attname: Name, inherited: Bool, null_frac: Float4,
        avg_width: Int4, n_distinct: Float4, most_common_vals: TextArray,
        most_common_freqs: Float4Array, histogram_bounds: TextArray, correlation: Float4,
        most_common_elems: TextArray, most_common_elem_freqs: Float4Array,
        elem_count_histogram: Float4Array,
    }),
    empty!(View "pg_stat_user_indexes" {
        relid: Oid, indexrelid: Oid, schemaname: Name, relname: Name, indexrelname: Name,
        idx_scan: Int8, idx_tup_read: Int8, idx_tup_fetch: Int8,
    }),
    empty!(Table "pg_subscription" {
        oid: Oid, subdbid: Oid, subskiplsn: Text, subname: Name, subowner: Oid, subenabled: Bool,
        subbinary: Bool, substream: Bool, subtwophasestate: Char, subdisableonerr: Bool,
        subconninfo: Text, subslotname: Name, subsynccommit: Text, subpublications: TextArray,
    }),
    empty!(View "pg_timezone_names" {
        name: Text, abbrev: Text, utc_offset: Interval, is_dst: Bool,
    }),
    empty!(Table "pg_trigger" {
        oid: Oid, tgrelid: Oid, tgparentid: Oid, tgname: Name, tgfoid: Oid, tgtype: Int2,
        tgenabled: Char, tgisinternal: Bool, tgconstrrelid: Oid, tgconstrindid: Oid,
        tgconstraint: Oid, tgdeferrable: Bool, tginitdeferred: Bool, tgnargs: Int2,
        tgattr: Int2Vector, tgargs: Bytea, tgqual: NodeTree, tgoldtable: Name, tgnewtable: Name,
    }),
    empty!(Table "pg_ts_config" {
        oid: Oid, cfgname: Name, cfgnamespace: Oid, cfgowner: Oid, cfgparser: Oid,
    }),
    empty!(Table "pg_ts_dict" {
        oid: Oid, dictname: Name, dictnamespace: Oid, dictowner: Oid, dicttemplate: Oid,
        dictinitoption: Text,
    }),
    empty!(Table "pg_ts_parser" {
        oid: Oid, prsname: Name, prsnamespace: Oid, prsstart: Regproc, prstoken: Regproc,
        prsend: Regproc, prsheadline: Regproc, prslextype: Regproc,
    }),
    empty!(Table "pg_ts_template" {
        oid: Oid, tmplname: Name, tmplnamespace: Oid, tmplinit: Regproc, tmpllexize: Regproc,
    }),
    empty!(View "pg_user_mappings" {
        umid: Oid, srvid: Oid, srvname: Name, umuser: Oid, usename: Name, umoptions: TextArray,
    }),
    empty!(View "pg_prepared_statements" {
        name: Text, statement: Text, prepare_time: Timestamptz, parameter_types: OidArray,
        from_sql: Bool, generic_plans: Int8, custom_plans: Int8,
    }),
];
