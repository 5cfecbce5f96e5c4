//! The writer thread: the operations that queue during one commit become the next one.

use std::thread;
use std::time::{Duration, Instant};

use handler::Access;
use tokio::sync::mpsc;

use crate::delivery::Delivery;
use crate::store::group::{own_times, refuse_late, run_group, tell};
use crate::store::job::Job;
use crate::store::job_queue::Receiver;
use crate::store::request_times::RequestTimes;
use crate::store::transactor::Transactor;

/// Operations in one commit that run one by one.
pub const GROUP_MAX: usize = 256;
/// Operations in one commit, with those that may run as sets.
const GROUP_WITH_SETS_MAX: usize = 1024;
/// Bytes of parameters in one commit, unless a single operation has more.
const GROUP_BYTES_MAX: usize = 1024 * 1024;
/// How long a request to a remote database waits, at most, for operations to share it, and how
/// often it looks for them.
const GATHER_MAX: Duration = Duration::from_millis(5);
const GATHER_STEP: Duration = Duration::from_micros(200);

/// Commits groups until the queue has ended.
pub fn write_groups(
    mut database: Transactor,
    mut queue: Receiver,
    timeout: Duration,
    deliveries: &mpsc::Sender<Vec<Delivery>>,
) {
    let is_remote = !matches!(database, Transactor::Local(_));
    // The size of the last group, and how long it took.
    let (mut last_size, mut last_time) = (0, Duration::ZERO);
    let mut ends = Vec::new();
    while queue.wait() > 0 {
        if is_remote {
            gather(&mut queue, last_size, last_time);
        }
        let mut jobs = take_group(&mut queue, database.request_times());
        let started = Instant::now();
        last_size = jobs.len();
        while !jobs.is_empty() {
            let rest = jobs.split_off(fitting(&jobs));
            let mut told = Vec::new();
            let jobs_in_time = refuse_late(jobs, timeout, &mut told);
            let sources: Vec<_> = jobs_in_time.iter().map(|job| job.room.address).collect();
            let began = Instant::now();
            let mut undone = run_group(
                &mut database,
                Access::Write,
                jobs_in_time,
                timeout,
                &mut told,
                &mut ends,
            );
            let total = began.elapsed();
            tell(deliveries, told);
            let done = sources.len() - undone.len();
            let costs = costs(done, &ends, total);
            for (source, cost) in sources.into_iter().zip(costs) {
                queue.charge(source, cost);
            }
            if undone.is_empty() {
                jobs = rest;
            } else {
                // What others have sent meanwhile may have its turn before them.
                undone.extend(rest);
                queue.put_back(undone);
                jobs = Vec::new();
            }
        }
        last_time = started.elapsed();
        if let Transactor::Local(database) = &mut database {
            database.keep_log_short();
        }
    }
    if let Transactor::Local(database) = &mut database {
        database.checkpoint();
    }
}

/// The operations of the next commit: all that wait, up to the limits.
fn take_group(queue: &mut Receiver, request_times: Option<&RequestTimes>) -> Vec<Job> {
    let (mut jobs, mut single, mut time) = (Vec::new(), 0, Duration::ZERO);
    let time_max = request_times.map_or(Duration::MAX, RequestTimes::most);
    while single < GROUP_MAX && jobs.len() < GROUP_WITH_SETS_MAX && time < time_max {
        let Some(mut job) = queue.take() else {
            break;
        };
        job.room.leave_queue();
        time += request_times.map_or(Duration::ZERO, |times| {
            times.of(job.room.address, job.element.is_some())
        });
        single += usize::from(job.element.is_none());
        jobs.push(job);
    }
    jobs
}

/// Clients that were answered by the last request often send again at once. If the next request
/// leaves before that, they wait for one whole request more. So this waits for as many operations
/// as the last group had, but only for a small part of the time that its request took.
fn gather(queue: &mut Receiver, last_size: usize, last_time: Duration) {
    let until = Instant::now() + (last_time / 8).min(GATHER_MAX);
    while queue.receive() < last_size && Instant::now() < until {
        thread::sleep(GATHER_STEP);
    }
}

/// What each of the operations of a group has cost: its own time, and its share of the commit. If
/// their times are not known: the mean. Without their own times, a cheap operation would pay for the
/// dear ones that it meets in a commit.
fn costs(done: usize, ends: &[Duration], total: Duration) -> Vec<Duration> {
    let count = done.max(1) as u32;
    let Some(last) = ends.last().filter(|_| ends.len() == done) else {
        return vec![total / count; done];
    };
    let share = total.saturating_sub(*last) / count;
    own_times(ends).map(|own| own + share).collect()
}

/// How many of these make a group: at least one.
fn fitting(jobs: &[Job]) -> usize {
    let mut bytes = 0;
    let fits = |job: &&Job| {
        bytes += job.bytes;
        bytes <= GROUP_BYTES_MAX
    };
    jobs.iter().take_while(fits).count().max(1)
}

#[cfg(test)]
mod tests {
    use handler::{Context, Event, Operation};

    use super::*;
    use crate::limits::memory::AllMemory;
    use crate::store::job_queue::Entry;
    use crate::store::job_queue::queue;
    use crate::store::request_times::Ran;
    use crate::store::source::Source;

    #[tokio::test]
    async fn a_commit_has_a_limit_for_single_operations_and_one_for_all() {
        let send = r#"{ "type": "send_message", "conversation_id": 1, "content": "x" }"#;
        let send = Event::parse(send).operation.expect("valid");
        let ctx = Context::new(1, "x".into(), 0);
        let source = Source::own(AllMemory::new().into());
        for (single, in_sets, expected) in [
            (300, 0, GROUP_MAX),
            (0, 1100, GROUP_WITH_SETS_MAX),
            (10, 500, 510),
        ] {
            let (sender, mut receiver) = queue(4096, None);
            for number in 0..single + in_sets {
                let room = sender.room(&source, source.writes(), 1).await;
                let mut job = Job::idle(number, room.expect("room"));
                job.element = send.element(&ctx).filter(|_| number >= single);
                sender.send(Entry::Job(job)).expect("sent");
            }
            receiver.wait();
            assert_eq!(take_group(&mut receiver, None).len(), expected);
        }
    }

    /// One address may have 128 writes in the queue (4,096 / 32).
    #[tokio::test(start_paused = true)]
    async fn while_a_group_runs_its_source_may_fill_the_next_one() {
        let source = Source::of(
            std::net::IpAddr::from([192, 0, 2, 1]).into(),
            AllMemory::new().into(),
        );
        let (sender, mut receiver) = queue(4096, None);
        let fill = async || {
            let mut count = 0;
            while let Ok(room) = sender.room(&source, source.writes(), 1).await {
                sender.send(Entry::Job(Job::idle(1, room))).expect("sent");
                count += 1;
            }
            count
        };
        assert_eq!(fill().await, 128);
        receiver.wait();
        let running = take_group(&mut receiver, None);
        assert_eq!(running.len(), 128);
        assert_eq!(fill().await, 128);
        receiver.wait();
        assert_eq!(take_group(&mut receiver, None).len(), 128);
    }

    /// Operations that take long on a server do not make a request long for those of others.
    #[tokio::test(start_paused = true)]
    async fn a_request_has_few_dear_operations() {
        let memory = std::sync::Arc::new(AllMemory::new());
        let of = |host| {
            Source::of(
                std::net::IpAddr::from([192, 0, 2, host]).into(),
                memory.clone(),
            )
        };
        let (dear, cheap) = (of(1), of(2));
        let (sender, mut receiver) = queue(4096, None);
        let mut times = RequestTimes::default();
        for source in [&dear, &cheap] {
            for _ in 0..100 {
                let room = sender.room(source, source.writes(), 1).await.expect("room");
                sender.send(Entry::Job(Job::idle(1, room))).expect("sent");
            }
            let is_dear = std::ptr::eq(source, &dear);
            let ran = |_| Ran {
                source: source.address(),
                statements: is_dear.then_some(6),
                answer_bytes: 100,
            };
            let group: Vec<_> = (0..32).map(ran).collect();
            let worked = Duration::from_millis(if is_dear { 64 } else { 1 });
            (0..20).for_each(|_| times.note(&group, worked, worked));
        }
        receiver.wait();
        let group = take_group(&mut receiver, Some(&times));
        let is_dear = |job: &&Job| job.room.address == dear.address();
        let of_dear = group.iter().filter(is_dear).count();
        let of_cheap = group.len() - of_dear;
        assert!(
            (2..5).contains(&of_dear) && of_cheap >= 2,
            "{of_dear}, {of_cheap}"
        );
    }

    #[test]
    fn operations_pay_for_themselves() {
        let ms = |numbers: &[u64]| -> Vec<_> {
            let numbers = numbers.iter();
            numbers.map(|ms| Duration::from_millis(*ms)).collect()
        };
        let total = Duration::from_millis(18);
        assert_eq!(costs(3, &ms(&[1, 11, 12]), total), ms(&[3, 12, 3]));
        assert_eq!(costs(3, &ms(&[]), total), ms(&[6, 6, 6]));
        assert_eq!(costs(2, &ms(&[1, 11, 12]), total), ms(&[9, 9]));
        assert_eq!(costs(0, &ms(&[]), total), ms(&[]));
    }
}
