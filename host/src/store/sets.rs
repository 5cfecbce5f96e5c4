//! Puts the jobs of a group together in sets, for a database on a server.
//!
//! No job of a group has been answered, so they may run in any order. Only those of one user stay in
//! theirs: a client may send several requests at once.

use std::collections::{HashMap, HashSet};

use handler::{Element, Rows, Set, Statement};

use crate::store::job::Job;

/// Jobs that run in one transaction, in this order.
pub struct Group {
    pub jobs: Vec<Job>,
    parts: Vec<Part>,
}

/// The next jobs of a group.
struct Part {
    jobs: usize,
    /// The set that they are. Otherwise they run one by one.
    set: Option<&'static Set>,
}

impl Group {
    /// Jobs that run one by one.
    pub fn single(jobs: Vec<Job>) -> Self {
        let part = Part {
            jobs: jobs.len(),
            set: None,
        };
        Group {
            jobs,
            parts: vec![part],
        }
    }

    /// Puts jobs together in sets.
    pub fn gather(jobs: Vec<Job>) -> Self {
        let all = jobs.iter().map(|job| (job.user_id, job.element.as_ref()));
        let (places, numbers) = places(all);
        let mut gathered: Vec<Vec<Job>> = places.iter().map(|_| Vec::new()).collect();
        for (job, number) in jobs.into_iter().zip(numbers) {
            gathered[number].push(job);
        }
        let part = |(place, jobs): (&Place, &Vec<Job>)| Part {
            jobs: jobs.len(),
            // A set of one costs more than its statements do.
            set: place.set.filter(|_| jobs.len() > 1),
        };
        Group {
            parts: places.iter().zip(&gathered).map(part).collect(),
            jobs: gathered.into_iter().flatten().collect(),
        }
    }

    /// The statements of each operation, and of each set as if it were one operation. `note` stands
    /// before and after a set that stores messages.
    pub fn statements(&mut self, note: Option<&Statement>) -> Vec<Vec<Statement>> {
        let mut all = Vec::new();
        for (part, jobs) in self.parts() {
            match part.set {
                Some(set) => {
                    let note = note.filter(|_| set.repeated.is_some());
                    let statements = note.into_iter().cloned();
                    let statements = statements.chain((set.statements)(&elements(jobs)));
                    all.push(statements.chain(note.cloned()).collect());
                }
                None => all.extend(jobs.iter_mut().map(Job::take_statements)),
            }
        }
        all
    }

    /// The same, to find what was done if the answer was lost. Each set that stores messages has two
    /// of the ids that were noted.
    pub fn repeated(&mut self, noted: Vec<i64>) -> Vec<Vec<Statement>> {
        let mut noted = noted.into_iter();
        let mut next = || noted.next().unwrap_or_default();
        let nothing = || Statement::new("select null where 0", []);
        let mut all = Vec::new();
        for (part, jobs) in self.parts() {
            match part.set.and_then(|set| set.repeated) {
                Some(repeated) => {
                    let mut statements = repeated(&elements(jobs), next(), next());
                    // In place of those that noted them.
                    statements.insert(0, nothing());
                    statements.push(nothing());
                    all.push(statements);
                }
                None => {
                    part.set = None;
                    all.extend(jobs.iter_mut().map(|job| {
                        job.work.repeat();
                        job.work.statements()
                    }));
                }
            }
        }
        all
    }

    /// The rows of each job, from those of each operation and set.
    pub fn rows(&mut self, rows: Vec<Vec<Rows>>) -> Vec<Vec<Rows>> {
        let mut rows = rows.into_iter();
        let mut all = Vec::new();
        for (part, jobs) in self.parts() {
            match part.set {
                Some(set) => {
                    let rows = rows.next().unwrap_or_default();
                    let noted = usize::from(set.repeated.is_some());
                    all.extend((set.rows)(&elements(jobs), &rows[noted..]));
                }
                None => all.extend(rows.by_ref().take(jobs.len())),
            }
        }
        all
    }

    /// Each part with its jobs.
    fn parts(&mut self) -> impl Iterator<Item = (&mut Part, &mut [Job])> {
        let mut rest = &mut self.jobs[..];
        self.parts.iter_mut().map(move |part| {
            let (jobs, others) = std::mem::take(&mut rest).split_at_mut(part.jobs);
            rest = others;
            (part, jobs)
        })
    }
}

fn elements(jobs: &[Job]) -> Vec<&Element> {
    jobs.iter().filter_map(|job| job.element.as_ref()).collect()
}

/// Jobs that run as one set, or one by one.
#[derive(Default)]
struct Place {
    set: Option<&'static Set>,
    keys: HashSet<u64>,
}

impl Place {
    fn takes(&self, element: Option<&Element>) -> bool {
        match (self.set, element) {
            (Some(set), Some(element)) => {
                let is_new = |key| !self.keys.contains(key);
                std::ptr::eq(set, element.set) && element.key.as_ref().is_none_or(is_new)
            }
            (set, element) => set.is_none() && element.is_none(),
        }
    }
}

/// The places, in the order in which they run, and for each of these users and elements the number of
/// its place: the first one that takes it and is not before the user's last one.
fn places<'a>(all: impl Iterator<Item = (i64, Option<&'a Element>)>) -> (Vec<Place>, Vec<usize>) {
    let mut places: Vec<Place> = Vec::new();
    let mut last: HashMap<i64, usize> = HashMap::new();
    let mut number = |(user_id, element): (i64, Option<&Element>)| {
        let first = last.get(&user_id).copied().unwrap_or_default();
        let mut numbers = first..places.len();
        let found = numbers.find(|number| places[*number].takes(element));
        let number = found.unwrap_or_else(|| {
            places.push(Place {
                set: element.map(|element| element.set),
                keys: HashSet::new(),
            });
            places.len() - 1
        });
        let key = element.and_then(|element| element.key);
        places[number].keys.extend(key);
        last.insert(user_id, number);
        number
    };
    let numbers = all.map(&mut number).collect();
    (places, numbers)
}

#[cfg(test)]
mod tests {
    use fastrand::Rng;
    use handler::{Context, Event, Operation};
    use serde_json::json;

    use super::*;

    /// A message of this user, or another event. The same `client_id` makes the same key.
    fn element(user_id: i64, kind: u8) -> Option<Element> {
        let mut event = json!({ "type": "send_message", "conversation_id": 1, "content": "x" });
        match kind {
            0 => event["type"] = "self".into(),
            1 => {}
            _ => event["client_id"] = kind.to_string().into(),
        }
        let operation = Event::parse(&event.to_string()).operation.expect("valid");
        operation.element(&Context::new(user_id, "x".into(), 0))
    }

    #[test]
    fn sets_are_large_and_keep_the_order_of_each_user() {
        let mut random = Rng::with_seed(1);
        for _ in 0..200 {
            let requests = (0..random.usize(..30)).map(|_| (random.i64(1..4), random.u8(..4)));
            let requests: Vec<_> = requests.collect();
            let elements: Vec<_> = requests
                .iter()
                .map(|(user, kind)| element(*user, *kind))
                .collect();
            let users = requests.iter().map(|(user, _)| *user);
            let (places, numbers) = places(users.zip(elements.iter().map(Option::as_ref)));
            for (index, (user, kind)) in requests.iter().enumerate() {
                assert_eq!(
                    places[numbers[index]].set.is_none(),
                    *kind == 0,
                    "{requests:?}"
                );
                for before in 0..index {
                    let is_same = requests[before].0 == *user;
                    assert!(
                        !is_same || numbers[before] <= numbers[index],
                        "{requests:?}"
                    );
                    let has_same_key = *kind > 1 && requests[before] == (*user, *kind);
                    assert!(
                        !has_same_key || numbers[before] < numbers[index],
                        "{requests:?}"
                    );
                }
            }
        }
        let messages: Vec<_> = (0..9).map(|user| (user, element(user, 2))).collect();
        let (places, _) = places(
            messages
                .iter()
                .map(|(user, element)| (*user, element.as_ref())),
        );
        assert_eq!(places.len(), 1, "messages of many users are one set");
    }
}
