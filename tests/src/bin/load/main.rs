//! Measures the chat. Each figure is compared with a floor that is measured in the same run, round
//! by round.
//!
//!     load sends --pairs 100 --in-flight 1 --seconds 5 --rounds 3
//!
//! Without `--url`, a scenario starts the host itself, on a new file that contains its users. With
//! `--url http://HOST:PORT` or `https://HOST`, it uses a running host. All sockets of this program
//! are on one thread, which does no more than it must. The program checks that everything that
//! should arrive does arrive, once and in order; otherwise it says so and exits with 1. Each figure
//! is a line for people and a line of JSON: medians, every round, the floor, CPUs in use.
//!
//! | | measures | the floor |
//! |---|---|---|
//! | `sends` | durable sends a second; each sender of a pair keeps `--in-flight` messages unanswered | the same statements in bare commits of 64 |
//! | `edits` | edits a second, one unanswered by each sender | sends of the same pairs |
//! | `latency` | sends at a steady `--rate`: the time from when a message was due to its reply | fdatasync of 4 KiB on the same disk |
//! | `latency --logins 4` | the p99 of that time while this many users log in | the p99 without logins |
//! | `fan-out` | deliveries a second to `--groups` of `--members`, each message after the reply to the last; with `--burst`, each burst after the last has arrived everywhere | a write to each of as many sockets |
//! | `one-room` | the time of a message to all `--members` of a room; deliveries a second while `--senders` of them send, each after the reply to its last | |
//! | `pings` | pings, the shortest way through the host; `--sockets` with `--in-flight` each | a bare TCP echo |
//! | `history` | pages of `--messages` | the same queries without a server |
//! | `connects` | sockets opened a second, presence stored | |
//! | `first-connects` | sockets of `--users` who come for the first time with a token, which creates them, a second | |
//! | `idle` | memory of an idle socket, before and after traffic | |
//! | `logins` | logins a second | bare hashes on as many threads |
//! | `mix` | something of everything, at a steady `--rate` | |
//! | `start` | time to serve a file of `--messages`; memory of an empty host | |
//! | `growth` | each operation in a database of `--large` messages | the same with `--small` messages |
//! | `search` | first pages of searches in a database of `--messages`, and the size of the index | |
//! | `indexing` | durable sends a second while the index of the search is filled | the same without an index |
//! | `export` | the seconds and the memory of an export of `--messages` of one user | |
//! | `report` | all scenarios with a target: a table, `--json FILE`, `--svg FILE` | |
//! | `remote` | sends over a libSQL server, with `--hosts` joined by a bus; it starts all of them; `--delay-ms` before each request; at a steady `--rate`, or as many as go | bare sets of as many messages, one request each, through the same delay |
//! | `remote-history` | pages of `--messages` from a libSQL server, `--delay-ms` away | |
//! | `plots` | the throughput by pairs, the latency by rate and the deliveries by members, with the scenarios above: `--json FILE`, and drawings in `--svg DIR` | |
//! | `hearing` | bytes on the bus into a host for each message that it delivers, with 2, 4 and 8 `--hosts` | |
//!
//!     load attacks --seconds 5 --rounds 3
//!
//! What a few ordinary users experience while others go to every limit and beyond, in turns with
//! quiet rounds. It starts the host with its default limits. `--only` selects one of the attacks.

mod attackers;
mod attacks;
mod bars;
mod connects;
mod curves;
mod edits;
mod export;
mod fan_out;
mod first_connects;
mod floor;
mod floor_servers;
mod frame;
mod growth;
mod hearing;
mod history;
mod idle;
mod logins;
mod machine;
mod measurement;
mod mix;
mod one_room;
mod order;
mod pings;
mod plots;
mod remote;
mod report;
mod search;
mod sends;
mod site;
mod socket;
mod start;
mod svg;
mod swarm;
mod tls;
mod zipf;

use std::path::PathBuf;

use anyhow::Result;
use clap::{Parser, Subcommand};
use measurement::Measurement;

/// Measures the chat; each figure is compared with a floor.
#[derive(Parser)]
enum Arguments {
    #[command(flatten)]
    Scenario(Scenario),
    /// Runs all scenarios that have a target, and prints a table.
    Report(report::Report),
    /// What ordinary users experience while others go to every limit.
    Attacks(attacks::Attacks),
    /// One of those attacks, without end.
    #[command(hide = true)]
    Attack(attackers::Attackers),
    /// A bare writer.
    #[command(hide = true)]
    FloorWrites(floor_servers::FloorWrites),
    /// A bare echo.
    #[command(hide = true)]
    FloorEcho(floor_servers::FloorEcho),
    /// A host whose sockets are written to by so many threads.
    #[command(hide = true)]
    Host { file: PathBuf, flushers: usize },
}

#[derive(Subcommand)]
enum Scenario {
    /// Durable sends a second, in pairs.
    Sends(sends::Sends),
    /// Edits a second, beside sends.
    Edits(edits::Edits),
    /// How long a send takes, at a steady rate.
    Latency(sends::Latencies),
    /// Deliveries a second, to groups.
    FanOut(fan_out::FanOut),
    /// A message to a large room, and many senders in it.
    OneRoom(one_room::OneRoom),
    /// Pings a second.
    Pings(pings::Pings),
    /// Pages of history a second.
    History(history::History),
    /// Sockets opened a second.
    Connects(connects::Connects),
    /// Users that their first connects create, a second.
    FirstConnects(first_connects::FirstConnects),
    /// Memory of idle sockets.
    Idle(idle::Idle),
    /// Logins a second.
    Logins(logins::Logins),
    /// Something of everything, at a steady rate.
    Mix(mix::Mix),
    /// How long a host takes to serve, and its memory.
    Start(start::Start),
    /// The cost of operations as the database grows.
    Growth(growth::Growth),
    /// First pages of searches, and the size of the index.
    Search(search::Search),
    /// Sends while the index of the search is filled.
    Indexing(search::Indexing),
    /// Time and memory of the export of an account.
    Export(export::Export),
    /// Durable sends a second over a libSQL server.
    Remote(remote::Remote),
    RemoteHistory(remote::RemoteHistory),
    /// Bytes on the bus into each host, by the number of hosts.
    Hearing(hearing::Hearing),
    /// Draws throughput, latency and deliveries as they grow.
    Plots(plots::Plots),
}

#[tokio::main]
async fn main() -> Result<()> {
    machine::raise_file_limit()?;
    match Arguments::parse() {
        Arguments::Scenario(scenario) => {
            for measurement in run(scenario).await? {
                println!("{}\n{}", measurement.text(), measurement.json());
            }
            Ok(())
        }
        Arguments::Report(arguments) => report::report(arguments).await,
        Arguments::Attacks(arguments) => attacks::attacks(arguments).await,
        Arguments::Attack(attackers) => {
            attackers::attack(attackers).await;
            Ok(())
        }
        Arguments::FloorWrites(arguments) => floor_servers::floor_writes(&arguments),
        Arguments::FloorEcho(arguments) => floor_servers::floor_echo(&arguments),
        Arguments::Host { file, flushers } => site::serve(&file, flushers).await,
    }
}

async fn run(scenario: Scenario) -> Result<Vec<Measurement>> {
    match scenario {
        Scenario::Sends(arguments) => sends::sends(arguments).await,
        Scenario::Edits(arguments) => edits::edits(arguments).await,
        Scenario::Latency(arguments) => sends::latency(arguments).await,
        Scenario::FanOut(arguments) => fan_out::fan_out(arguments).await,
        Scenario::OneRoom(arguments) => one_room::one_room(arguments).await,
        Scenario::Pings(arguments) => pings::pings(arguments).await,
        Scenario::History(arguments) => history::history(arguments).await,
        Scenario::Connects(arguments) => connects::connects(arguments).await,
        Scenario::FirstConnects(arguments) => first_connects::first_connects(arguments).await,
        Scenario::Idle(arguments) => idle::idle(arguments).await,
        Scenario::Logins(arguments) => logins::logins(arguments).await,
        Scenario::Mix(arguments) => mix::mix(arguments).await,
        Scenario::Start(arguments) => start::start(arguments).await,
        Scenario::Growth(arguments) => growth::growth(arguments).await,
        Scenario::Search(arguments) => search::search(arguments).await,
        Scenario::Indexing(arguments) => search::indexing(arguments).await,
        Scenario::Export(arguments) => export::export(arguments).await,
        Scenario::Remote(arguments) => remote::remote(arguments).await,
        Scenario::RemoteHistory(arguments) => remote::remote_history(arguments).await,
        Scenario::Hearing(arguments) => hearing::hearing(arguments).await,
        Scenario::Plots(arguments) => plots::plots(arguments).await,
    }
}
