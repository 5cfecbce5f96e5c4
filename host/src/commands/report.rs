//! `chatapp report`: what users have reported, and what the operator does about it. It works beside a
//! running server.

use std::io::Write;

use anyhow::Context as _;
use handler::Context;
use handler::moderation::erase::EraseMessage;
use handler::moderation::reports::{
    CloseReports, FindReport, ListReports, REPORTS_LISTED_MAX, Report,
};

use crate::clock;
use crate::commands::reach::Place;
use crate::commands::shown::shown;
use crate::commands::user;
use crate::config::Config;
use crate::store::single_connection::SingleConnection;

/// As many characters of a reason are in a line of the list.
const LISTED_REASON_CHARS_MAX: usize = 60;

/// What closing a report does besides.
#[derive(Debug, Clone, Copy)]
pub struct Measures {
    pub deletes_message: bool,
    pub bans_sender: bool,
}

/// Writes a line for each open report, or for each report, the newest first: at most
/// `REPORTS_LISTED_MAX`, below the id `before`.
pub async fn list(
    config: &Config,
    before: Option<i64>,
    is_of_all: bool,
    output: &mut impl Write,
) -> anyhow::Result<()> {
    let db = SingleConnection::open_current(&config.database, clock::now()).await?;
    let list = ListReports {
        before: before.unwrap_or(i64::MAX),
        is_of_all,
    };
    let reports = db.run(&anonymous(), &list, &mut Vec::new()).await?;
    for report in &reports {
        writeln!(output, "{}", line(report))?;
    }
    if let (Some(last), true) = (reports.last(), reports.len() as i64 == REPORTS_LISTED_MAX) {
        writeln!(output, "older ones: --before {}", last.id)?;
    }
    if reports.is_empty() {
        writeln!(output, "no reports")?;
    }
    Ok(())
}

/// Writes all that is known of a report.
pub async fn show(config: &Config, id: i64, output: &mut impl Write) -> anyhow::Result<()> {
    let db = SingleConnection::open_current(&config.database, clock::now()).await?;
    let report = find(&db, id).await?;
    let state = match &report.closed_at {
        Some(time) => format!("closed {time}, {}", report.outcome),
        None => "open".to_owned(),
    };
    let ban = match report.is_sender_banned {
        true => ", who is banned",
        false => "",
    };
    writeln!(output, "report {id}: {state}")?;
    writeln!(
        output,
        "reported {} by {}:",
        report.reported_at,
        shown(&report.reporter)
    )?;
    write_indented(output, &report.reason)?;
    writeln!(
        output,
        "message {} of {}{ban}, sent {} in conversation {} \"{}\"",
        report.message_id,
        shown(&report.sender),
        report.sent_at,
        report.conversation_id,
        shown(&report.conversation)
    )?;
    if report.closed_at.is_none() {
        writeln!(output, "the message when it was reported:")?;
        write_indented(output, &report.content)?;
    }
    if report.is_deleted {
        writeln!(output, "the message is deleted now")?;
    } else if report.closed_at.is_some() || report.present_content != report.content {
        writeln!(output, "the message now:")?;
        write_indented(output, &report.present_content)?;
    }
    Ok(())
}

/// Closes a report, and all others of the same message, after it has taken the measures. Each step may
/// be repeated, so if one fails, the same command goes on.
pub async fn close(
    config: &Config,
    id: i64,
    measures: Measures,
    output: &mut impl Write,
) -> anyhow::Result<()> {
    let mut db = SingleConnection::open_current(&config.database, clock::now()).await?;
    let report = find(&db, id).await?;
    let ctx = anonymous();
    let message_id = report.message_id;
    if measures.deletes_message {
        let erase = EraseMessage { message_id };
        db.run(&ctx, &erase, &mut Vec::new()).await?;
        writeln!(output, "message {message_id} is deleted")?;
    }
    let mut is_banned = false;
    if measures.bans_sender {
        // Only one part of this process may have the file open.
        drop(db);
        is_banned = user::ban_if_there(config, &Place::default(), &report.sender).await?;
        match is_banned {
            true => writeln!(output, "{} is banned", shown(&report.sender))?,
            false => writeln!(
                output,
                "the account of its sender is deleted, so nobody is banned"
            )?,
        }
        db = SingleConnection::open_current(&config.database, clock::now()).await?;
    }
    let outcome = match (measures.deletes_message, is_banned) {
        (false, false) => "closed",
        (true, false) => "deleted",
        (false, true) => "banned",
        (true, true) => "deleted,banned",
    };
    let close = CloseReports {
        message_id,
        outcome,
    };
    db.run(&ctx, &close, &mut Vec::new()).await?;
    writeln!(output, "the reports of message {message_id} are closed")?;
    Ok(())
}

fn anonymous() -> Context {
    Context::anonymous(clock::now())
}

async fn find(db: &SingleConnection, id: i64) -> anyhow::Result<Report> {
    let find = FindReport { id };
    let found = db.run(&anonymous(), &find, &mut Vec::new()).await?;
    found.with_context(|| format!("no report {id}"))
}

fn line(report: &Report) -> String {
    let state = match &report.closed_at {
        Some(_) => format!(" [{}]", report.outcome),
        None => String::new(),
    };
    let mut reason: String = report
        .reason
        .chars()
        .take(LISTED_REASON_CHARS_MAX)
        .collect();
    if reason.len() < report.reason.len() {
        reason.push('…');
    }
    format!(
        "{}  {}  {} reports {}: {}{state}",
        report.id,
        report.reported_at,
        shown(&report.reporter),
        shown(&report.sender),
        shown(&reason)
    )
}

/// Each line of the text, indented, so that it cannot be taken for one of this program's.
fn write_indented(output: &mut impl Write, text: &str) -> std::io::Result<()> {
    for line in text.split('\n') {
        writeln!(output, "    {}", shown(line))?;
    }
    Ok(())
}
