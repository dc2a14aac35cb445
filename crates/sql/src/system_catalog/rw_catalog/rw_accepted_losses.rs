//! `rw_accepted_losses`: lost acknowledged commits whose loss was accepted with `--accept-loss-after-epoch`.

use crate::system_catalog::SystemContext;
use crate::system_catalog::relation::{SystemRelation, relation};
use tidemark_ledger::epoch::Epoch;
use tidemark_ledger::state::AcceptedLoss;

pub(super) const RELATION: SystemRelation = relation!(
    Table 14014 "rw_accepted_losses", |_context, loss: AcceptedLoss| from losses,
    {
        accepted_at: Timestamptz = Epoch::from_unix_ms(loss.accepted_ms).timestamp().map(micros),
        after_epoch: Int8 = loss.found.epoch.as_u64(),
        after_epoch_ts: Timestamp = loss.found.epoch.timestamp().map(micros),
        until_epoch: Int8 = loss.promised.epoch.as_u64(),
        until_epoch_ts: Timestamp = loss.promised.epoch.timestamp().map(micros),
        known_by: Varchar = &loss.by,
    }
);

fn losses(context: &SystemContext) -> Vec<AcceptedLoss> {
    context.view.accepted_losses.clone()
}

fn micros(time: chrono::NaiveDateTime) -> i64 {
    time.and_utc().timestamp_micros()
}
