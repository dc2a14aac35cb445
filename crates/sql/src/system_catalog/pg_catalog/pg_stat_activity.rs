//! `pg_stat_activity`: the sessions of the server that runs the query.

use std::sync::Arc;

use crate::sessions::{Doing, SessionEntry};
use crate::system_catalog::SystemContext;
use crate::system_catalog::cell::NULL;
use crate::system_catalog::listing::{DATABASE_OID, OWNER_OID};
use crate::system_catalog::relation::{SystemRelation, relation};

struct Activity {
    database: String,
    user: String,
    session: Arc<SessionEntry>,
    now: Doing,
}

pub(super) const RELATION: SystemRelation = relation!(
    View 12015 "pg_stat_activity", |_context, activity: Activity| from activities,
    {
        datid: Oid = DATABASE_OID,
        datname: Name = &activity.database,
        pid: Int4 = activity.session.pid,
        leader_pid: Int4 = NULL,
        usesysid: Oid = OWNER_OID,
        usename: Name = &activity.user,
        application_name: Text = &activity.now.application,
        client_addr: Inet = activity.session.peer.ip().to_string(),
        client_hostname: Text = NULL,
        client_port: Int4 = i64::from(activity.session.peer.port()),
        backend_start: Timestamptz = micros(activity.session.started_ms),
        xact_start: Timestamptz = activity.now.transaction_since_ms.map(micros),
        query_start: Timestamptz = activity.now.query_since_ms.map(micros),
        state_change: Timestamptz = micros(activity.now.state_since_ms),
        wait_event_type: Text = NULL,
        wait_event: Text = NULL,
        state: Text = activity.now.state.name(),
        backend_xid: Xid = NULL,
        backend_xmin: Xid = NULL,
        query_id: Int8 = NULL,
        query: Text = &activity.now.query,
        backend_type: Text = "client backend",
    }
);

fn micros(ms: u64) -> i64 {
    i64::try_from(ms).unwrap_or(i64::MAX).saturating_mul(1000)
}

fn activities(context: &SystemContext) -> Vec<Activity> {
    let sessions = context.sessions.all().into_iter();
    let activities = sessions.map(|session| Activity {
        database: context.database.clone(),
        user: context.user.clone(),
        now: session.now(),
        session,
    });
    activities.collect()
}
