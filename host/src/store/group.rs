//! Jobs that share a transaction: run, concluded, and where that fails, repeated in parts or refused.

use std::time::{Duration, Instant};

use handler::{Access, Error, Rows};
use tokio::sync::mpsc;

use crate::delivery::{Change, Delivery};
use crate::metrics::METRICS;
use crate::store::failures::Failure;
use crate::store::job::Job;
use crate::store::transactor::Transactor;

/// Hands deliveries on.
pub fn tell(deliveries: &mpsc::Sender<Vec<Delivery>>, told: Vec<Delivery>) {
    if !told.is_empty() && deliveries.blocking_send(told).is_err() {
        tracing::error!("the registry is gone: nothing is delivered any more");
    }
}

/// Runs operations and concludes them: what others are told is added to `told`, in the order of commits. One transaction
/// for all; where a statement fails, one for each, so that an operation that cannot be stored harms no other. A condition
/// of the database (it is locked, full, or gone) is all the operations' failure at once.
pub fn run_group(
    database: &mut Transactor,
    access: Access,
    mut jobs: Vec<Job>,
    timeout: Duration,
    told: &mut Vec<Delivery>,
) {
    let Some(oldest) = jobs.iter().map(|job| job.submitted_at).min() else {
        return;
    };
    // Those that have come late share what time there is with the oldest.
    let deadline = (oldest + timeout).max(Instant::now() + timeout / 4);
    let failure = match transact(database, access, &mut jobs, deadline) {
        Ok(results) => {
            // What was counted under the lease before is forgotten, this group not.
            told.extend(new_lease(database));
            finish(jobs, results.into_iter().map(Ok), told);
            return;
        }
        Err(failure) => failure,
    };
    match failure {
        Failure::AnswerLost => repeat(database, access, jobs, timeout, told),
        Failure::Statement(_) | Failure::TooLarge(_) if jobs.len() > 1 => {
            tracing::debug!(events = jobs.len(), "group failed, retrying in parts");
            let size = match failure {
                Failure::TooLarge(_) => jobs.len().div_ceil(2),
                _ => 1,
            };
            let mut rest = jobs;
            while !rest.is_empty() {
                let later = rest.split_off(size.min(rest.len()));
                run_group(database, access, rest, timeout, told);
                rest = later;
            }
        }
        failure => {
            if let Failure::Unknown(_) = failure {
                // Others may have to be told of what is not known to be stored.
                told.push(Change::Missed.into());
            }
            refuse(jobs, failure, told);
        }
    }
}

/// The group was committed, and its rows were lost: asks what it did.
fn repeat(
    database: &mut Transactor,
    access: Access,
    mut jobs: Vec<Job>,
    timeout: Duration,
    told: &mut Vec<Delivery>,
) {
    tracing::warn!(
        events = jobs.len(),
        "a commit's answer was lost: it is found again"
    );
    for job in &mut jobs {
        job.work.repeat();
    }
    match transact(database, access, &mut jobs, Instant::now() + timeout / 2) {
        Ok(results) => {
            finish(jobs, results.into_iter().map(Ok), told);
            // What this group has counted is forgotten too, if the lease was lost since.
            told.extend(new_lease(database));
        }
        Err(failure) => {
            // It is stored, and nobody can be told how.
            database.doubt_lease();
            told.push(Change::Missed.into());
            refuse(jobs, failure, told);
        }
    }
}

fn transact(
    database: &mut Transactor,
    access: Access,
    jobs: &mut [Job],
    deadline: Instant,
) -> Result<Vec<Vec<Rows>>, Failure> {
    let group = jobs.iter_mut().map(Job::take_statements).collect();
    let started = Instant::now();
    let result = database.transact(access, group, deadline);
    if access == Access::Write {
        let metrics = &*METRICS;
        let elapsed = started.elapsed();
        metrics.commit_seconds.observe(elapsed.as_secs_f64());
        metrics.commit_operations.observe(jobs.len() as f64);
    }
    if let Err(failure) = &result {
        let reason = failure.reason();
        METRICS.commit_failures.with_label_values(&[reason]).inc();
    }
    result
}

fn finish(
    jobs: Vec<Job>,
    results: impl Iterator<Item = Result<Vec<Rows>, Error>>,
    told: &mut Vec<Delivery>,
) {
    let finished = jobs.into_iter().zip(results);
    told.extend(finished.filter_map(|(job, rows)| job.work.finish(rows)));
}

/// Operations that have waited for their whole time behind others are not begun.
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

/// Where the host has a new lease because the one before was lost: what that has cost is not known.
fn new_lease(database: &mut Transactor) -> Vec<Delivery> {
    match database.take_new_lease() {
        Some(lease) => vec![Change::PresenceLost(lease).into(), Change::Missed.into()],
        None => Vec::new(),
    }
}
