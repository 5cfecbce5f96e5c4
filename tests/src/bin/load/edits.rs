//! Edits in pairs, and the sends that the same pairs do.

use std::cell::RefCell;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use clap::Args;
use serde_json::json;

use crate::frame::text;
use crate::measurement::{Measurement, interleave};
use crate::sends::{Pairs, pairs_of};
use crate::site::{Common, Site};
use crate::swarm::PATIENCE;

#[derive(Args)]
pub struct Edits {
    #[arg(long, default_value_t = 100)]
    pairs: usize,
    #[command(flatten)]
    common: Common,
}

pub async fn edits(arguments: Edits) -> Result<Vec<Measurement>> {
    let Edits { pairs, common } = arguments;
    ensure!(pairs > 0, "--pairs must be at least 1");
    let site = Site::make(&common, pairs_of(pairs)).await?;
    // Each round of sends leaves the messages that the next round of edits changes.
    let talk = RefCell::new(Pairs::new(site.connected()?, &site, 64));
    let rounds = interleave(
        &common,
        site.pid,
        async |length| Ok(talk.borrow_mut().closed(length, 1)?.per_second),
        async |length| edit(&mut talk.borrow_mut(), length),
    )
    .await?;
    let name = format!("edits, {pairs} pairs, 1 in flight");
    let measurement = Measurement::new(name, "edits/s", rounds.figures)
        .against("sends of the same pairs", &rounds.floors)
        .used(rounds.usage);
    Ok(vec![measurement])
}

/// Each sender edits its latest message, again when the reply is there. Returns the edits a second.
fn edit(talk: &mut Pairs, length: Duration) -> Result<f64> {
    let frame = |id: i64, number: usize| {
        let content = format!("{number:064}");
        let event = json!({ "type": "edit_message", "message_id": id, "content": content });
        text(&event.to_string())
    };
    let ids: Vec<i64> = talk.latest_ids().collect();
    let (mut sent, mut replies, mut pushes) = (0, 0, 0);
    let started = Instant::now();
    let end = started + length;
    for (pair, id) in ids.iter().enumerate() {
        talk.swarm.send(2 * pair, &frame(*id, sent));
        sent += 1;
    }
    let mut revs = Vec::new();
    let is_done = talk.swarm.run(end + PATIENCE, |swarm, index, payload| {
        let is_edit = payload.starts_with(br#"{"type":"edit_message","success":true"#);
        let shown = || String::from_utf8_lossy(payload).into_owned();
        ensure!(is_edit, "not an edit: {}", shown());
        revs.push((index, rev(payload).with_context(shown)?));
        if index % 2 == 1 {
            pushes += 1;
        } else {
            replies += 1;
            if swarm.now() < end {
                swarm.send(index, &frame(ids[index / 2], sent));
                sent += 1;
            }
        }
        Ok(replies == sent && pushes == sent)
    })?;
    ensure!(
        is_done,
        "lost: {sent} edits, {replies} replies, {pushes} pushes"
    );
    for (index, rev) in revs {
        talk.take_change(index, rev)?;
    }
    Ok(replies as f64 / started.elapsed().as_secs_f64())
}

/// The rev of a changed message, without more parsing than needed.
fn rev(event: &[u8]) -> Option<i64> {
    let name = br#""rev":"#;
    let start = event.windows(name.len()).position(|part| part == name)? + name.len();
    let digits = event[start..]
        .iter()
        .take_while(|byte| byte.is_ascii_digit());
    std::str::from_utf8(&event[start..start + digits.count()])
        .ok()?
        .parse()
        .ok()
}
