//! The program: reads the environment, then serves, or runs one command.

use std::io::{Write, stderr, stdout};
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use host::{Config, Server, command, log};
use mimalloc::MiMalloc;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::signal::unix::{SignalKind, signal};

#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// A chat backend: HTTP for accounts, JSON events on one WebSocket. Without a command it serves.
/// Configured by environment variables; see README.md.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Runs one event against DBPATH, without a server, and prints as lines of JSON: {"reply": …}; each
    /// {"push": …, "to": {"users": [ids]} or {"conversation": id}}; {"join": {"conversation": id, "users": [ids]}}.
    /// Exits with 1 where the event was refused.
    Event {
        /// The username of the caller.
        #[arg(long)]
        user: String,
        /// The event, for example '{"type": "self"}'.
        event: String,
    },
}

fn main() -> ExitCode {
    match run() {
        Ok(code) => code,
        Err(error) => {
            // Where even this cannot be written, the exit code has to say it.
            let _ = writeln!(stderr(), "host: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> anyhow::Result<ExitCode> {
    let arguments = Arguments::parse();
    let (config, warnings) = Config::read(|name| std::env::var_os(name))?;
    let _log = log::init(&config)?;
    let runtime = tokio::runtime::Runtime::new()?;
    match arguments.command {
        None => {
            for warning in warnings {
                tracing::warn!("{warning}");
            }
            raise_file_limit();
            let served = runtime.block_on(serve(&config));
            // A thread that still waits for a remote database is not waited for.
            runtime.shutdown_background();
            served?;
            Ok(ExitCode::SUCCESS)
        }
        Some(Command::Event { user, event }) => {
            let mut output = stdout();
            let event = command::event(&config, &user, &event, &mut output);
            let is_done = runtime.block_on(event)?;
            Ok(ExitCode::from(u8::from(!is_done)))
        }
    }
}

async fn serve(config: &Config) -> anyhow::Result<()> {
    // Before anything else, so that a signal during the start stops it in good order too.
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let (server, stopper) = tokio::select! {
        bound = Server::bind(config) => bound?,
        _ = terminate.recv() => return Ok(()),
        _ = interrupt.recv() => return Ok(()),
    };
    tracing::info!(
        "listening on http://{}, database {}, version {}",
        server.address()?,
        config.database,
        env!("CARGO_PKG_VERSION")
    );
    if let Some(address) = server.metrics_address() {
        tracing::info!("metrics on http://{address}/metrics");
    }
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        stopper.stop();
    });
    server.run().await
}

/// Every socket is a file descriptor, and shells allow 1,024 unless asked for more.
fn raise_file_limit() {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: maximum,
        maximum,
    };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::warn!(%error, "the limit of open files stays as it is");
    }
}
