//! `pg_stat_activity`: the session that asks. Others are not told of each other.

use crate::frontend::system_catalog::SystemContext;
use crate::frontend::system_catalog::cell::NULL;
use crate::frontend::system_catalog::listing::{DATABASE_OID, OWNER_OID};
use crate::frontend::system_catalog::relation::{SystemRelation, relation};

struct Activity {
    database: String,
    user: String,
    application: String,
}

pub(super) const RELATION: SystemRelation = relation!(
    View "pg_stat_activity", |_context, activity: Activity| from activities,
    {
        datid: Oid = DATABASE_OID,
        datname: Name = &activity.database,
        pid: Int4 = NULL,
        leader_pid: Int4 = NULL,
        usesysid: Oid = OWNER_OID,
        usename: Name = &activity.user,
        application_name: Text = &activity.application,
        client_addr: Inet = NULL,
        client_hostname: Text = NULL,
        client_port: Int4 = NULL,
        backend_start: Timestamptz = NULL,
        xact_start: Timestamptz = NULL,
        query_start: Timestamptz = NULL,
        state_change: Timestamptz = NULL,
        wait_event_type: Text = NULL,
        wait_event: Text = NULL,
        state: Text = "active",
        backend_xid: Xid = NULL,
        backend_xmin: Xid = NULL,
        query_id: Int8 = NULL,
        query: Text = "",
        backend_type: Text = "client backend",
    }
);

fn activities(context: &SystemContext) -> Vec<Activity> {
    vec![Activity {
        database: context.database.clone(),
        user: context.user.clone(),
        application: context.settings.get("application_name").cloned().unwrap_or_default(),
    }]
}
