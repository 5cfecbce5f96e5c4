//! Jobs that share a transaction. A group that fails is repeated in parts or refused.

use std::time::{Duration, Instant};

use handler::{Access, Error, Rows, Statement};
use tokio::sync::mpsc;

use crate::delivery::{Change, Delivery};
use crate::metrics::METRICS;
use crate::store::failures::Failure;
use crate::store::job::Job;
use crate::store::request_times::Ran;
use crate::store::sets::Group;
use crate::store::transactor::Transactor;

/// Sends deliveries to the registry.
pub fn tell(deliveries: &mpsc::Sender<Vec<Delivery>>, told: Vec<Delivery>) {
    if !told.is_empty() && deliveries.blocking_send(told).is_err() {
        tracing::error!("the registry is gone: nothing is delivered any more");
    }
}

/// How long each operation took, from the times at which each of them had run.
pub fn own_times(ends: &[Duration]) -> impl Iterator<Item = Duration> {
    let starts = std::iter::once(&Duration::ZERO).chain(ends);
    let times = ends.iter().zip(starts);
    times.map(|(end, start)| end.saturating_sub(*start))
}

/// Runs operations in one transaction and concludes them; adds their deliveries to `told` in commit
/// order. If a statement fails, each half of the group gets a transaction of its own, and so on, so
/// that an operation that cannot be stored harms no other. If the database is locked, full, or gone,
/// all operations fail at once. Returns the last of the jobs if they have to wait for the next transaction. `ends`: see
/// `Transactor::transact`.
pub fn run_group(
    database: &mut Transactor,
    access: Access,
    jobs: Vec<Job>,
    timeout: Duration,
    told: &mut Vec<Delivery>,
    ends: &mut Vec<Duration>,
) -> Vec<Job> {
    let Some(oldest) = jobs.iter().map(|job| job.submitted_at).min() else {
        return Vec::new();
    };
    // All jobs share the deadline of the oldest one, but have a quarter of the timeout at least.
    let left = timeout.saturating_sub(oldest.elapsed());
    let deadline = Instant::now() + left.max(timeout / 4);
    let mut group = match database.takes_sets() {
        true => Group::gather(jobs),
        false => Group::single(jobs),
    };
    let statements = group.statements(database.note_latest().as_ref());
    let failure = match transact(database, access, &mut group, statements, deadline, ends) {
        Ok(results) => {
            // The counts under the previous lease are lost, but not those of this group.
            told.extend(new_lease(database));
            let mut jobs = group.jobs;
            let rest = jobs.split_off(results.len());
            finish(jobs, results.into_iter().map(Ok), told);
            return rest;
        }
        Err(failure) => failure,
    };
    match failure {
        Failure::AnswerLost => repeat(database, access, group, timeout, told, ends),
        Failure::Statement(_) | Failure::TooLarge(_) if group.jobs.len() > 1 => {
            let mut rest = group.jobs;
            tracing::debug!(events = rest.len(), "a group failed: retrying its halves");
            let half = rest.len().div_ceil(2);
            while !rest.is_empty() {
                let later = rest.split_off(half.min(rest.len()));
                rest = run_group(database, access, rest, timeout, told, ends);
                rest.extend(later);
            }
        }
        failure => {
            if let Failure::Unknown(_) = failure {
                // If the group was stored after all, others have to hear of it.
                told.push(Change::Missed.into());
            }
            refuse(group.jobs, failure, told);
        }
    }
    Vec::new()
}

/// The group was committed, but its rows were lost: asks the database what it did.
fn repeat(
    database: &mut Transactor,
    access: Access,
    mut group: Group,
    timeout: Duration,
    told: &mut Vec<Delivery>,
    ends: &mut Vec<Duration>,
) {
    tracing::warn!(
        events = group.jobs.len(),
        "the answer to a commit was lost: asking for it again"
    );
    let deadline = Instant::now() + timeout / 2;
    let found = database.noted_ids(deadline).and_then(|noted| {
        let statements = group.repeated(noted);
        transact(database, access, &mut group, statements, deadline, ends)
    });
    match found {
        Ok(results) => {
            let mut repeated = group.jobs.iter().zip(&results);
            if repeated.any(|(job, rows)| job.work.is_count_unknown(rows)) {
                database.doubt_lease();
            }
            finish(group.jobs, results.into_iter().map(Ok), told);
            // If the lease was lost meanwhile, the counts of this group are lost too.
            told.extend(new_lease(database));
        }
        Err(failure) => {
            // The group is stored, but its results are not known.
            database.doubt_lease();
            told.push(Change::Missed.into());
            refuse(group.jobs, failure, told);
        }
    }
}

/// Runs these statements; returns the rows of each job.
fn transact(
    database: &mut Transactor,
    access: Access,
    group: &mut Group,
    statements: Vec<Vec<Statement>>,
    deadline: Instant,
    ends: &mut Vec<Duration>,
) -> Result<Vec<Vec<Rows>>, Failure> {
    let started = Instant::now();
    let result = database.transact(access, statements, deadline, ends);
    let elapsed = started.elapsed();
    if access == Access::Write {
        let metrics = &*METRICS;
        metrics.commit_seconds.observe(elapsed.as_secs_f64());
        metrics.commit_operations.observe(group.jobs.len() as f64);
    }
    if let Err(failure) = &result {
        let reason = failure.reason();
        METRICS.commit_failures.with_label_values(&[reason]).inc();
    }
    let rows = group.rows(result?);
    let ran = |(job, rows): (&Job, &Vec<Rows>)| Ran {
        source: job.room.address,
        // A set has few statements for all of its elements.
        statements: job.element.is_none().then_some(rows.len() as u32),
        answer_bytes: rows.iter().map(Rows::bytes).sum(),
    };
    database.note_times(group.jobs.iter().zip(&rows).map(ran), elapsed);
    Ok(rows)
}

fn finish(
    jobs: Vec<Job>,
    results: impl Iterator<Item = Result<Vec<Rows>, Error>>,
    told: &mut Vec<Delivery>,
) {
    let finished = jobs.into_iter().zip(results);
    told.extend(finished.filter_map(|(job, rows)| job.work.finish(rows)));
}

/// Refuses operations that have used up their time in the queue; returns the others.
pub fn refuse_late(jobs: Vec<Job>, timeout: Duration, told: &mut Vec<Delivery>) -> Vec<Job> {
    let is_late = |job: &Job| job.submitted_at.elapsed() >= timeout;
    let (late, in_time): (Vec<_>, Vec<_>) = jobs.into_iter().partition(is_late);
    if !late.is_empty() {
        refuse(
            late,
            Failure::Unavailable("the queue is too long".into()),
            told,
        );
    }
    in_time
}

fn refuse(jobs: Vec<Job>, failure: Failure, told: &mut Vec<Delivery>) {
    let answer = failure.answer();
    finish(jobs, std::iter::repeat_with(|| Err(answer.clone())), told);
}

/// What to deliver if the host has a new lease because the last one was lost: something may have
/// been missed.
fn new_lease(database: &mut Transactor) -> Vec<Delivery> {
    match database.take_new_lease() {
        Some(lease) => vec![Change::PresenceLost(lease).into(), Change::Missed.into()],
        None => Vec::new(),
    }
}
